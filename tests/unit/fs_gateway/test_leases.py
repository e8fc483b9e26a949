"""Leases exclude each other, run out by themselves, and outlive the gateway."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.clock import FakeClock
from cernvm.core.errors import ConflictError, InvalidInputError, LeaseLostError
from cernvm.fs.gateway.book import Answer, LeaseBook
from cernvm.fs.gateway.lease import LeasePath, PathBusyError, parse_lease_path

NAME = "t.cernvm.test"
paths = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=4).map(
    lambda parts: LeasePath(NAME, "".join(f"/{part}" for part in parts).encode())
)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def book(tmp_path, clock):
    book = LeaseBook(tmp_path / "leases.db", clock=clock)
    yield book
    book.close()


def take(book, path, ttl_s=100):
    return book.acquire(
        parse_lease_path(f"{NAME}{path}"), key_id="key", hostname="here", ttl_s=ttl_s, api_version=3
    )


@given(paths, paths)
def test_paths_overlap_exactly_where_one_holds_the_other(one, other):
    parts, others = (path.path.split(b"/") for path in (one, other))
    shorter = min(len(parts), len(others))

    assert one.overlaps(other) == (parts[:shorter] == others[:shorter])
    assert one.overlaps(other) == other.overlaps(one)


@pytest.mark.parametrize("text", [f"{NAME}/", NAME])
def test_a_bare_name_means_the_whole_repository(text):
    assert parse_lease_path(text) == LeasePath(NAME)


@pytest.mark.parametrize("text", ["", "/", "/a", "t/../x", f"{NAME}/../x", f"{NAME}/a//b", "T.X/a"])
def test_what_is_no_path_of_a_repository_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_lease_path(text)


@pytest.mark.parametrize("path", ["/a", "/a/b/c", "/"])
def test_an_overlapping_lease_is_refused_and_told_how_long(book, clock, path):
    take(book, "/a/b", ttl_s=100)
    clock.advance(30)

    with pytest.raises(PathBusyError) as refused:
        take(book, path)

    assert refused.value.left_s == 70


def test_siblings_are_leased_at_once(book):
    take(book, "/a/b")
    take(book, "/a/bc")

    assert [str(lease.path) for lease in book.leases(NAME)] == [f"{NAME}/a/b", f"{NAME}/a/bc"]


def test_a_lease_that_nobody_refreshes_frees_its_path(book, clock):
    lease = take(book, "/a", ttl_s=100)
    clock.advance(100)

    assert book.leases() == []
    with pytest.raises(LeaseLostError):
        book.refresh(lease.token)
    take(book, "/a")


def test_a_refreshed_lease_lasts_once_more_for_its_whole_time(book, clock):
    lease = take(book, "/a", ttl_s=100)
    for _ in range(5):
        clock.advance(60)
        book.refresh(lease.token)

    assert book.find(lease.token).left_s(clock.now()) == 100


def test_leases_outlive_the_gateway(book, tmp_path, clock):
    lease = take(book, "/a")
    again = LeaseBook(tmp_path / "leases.db", clock=clock)

    assert again.find(lease.token) == lease
    with pytest.raises(PathBusyError):
        take(again, "/a")
    again.close()


def test_who_cancels_below_a_path_takes_all_leases_there(book):
    for path in ("/a/b", "/a/c", "/ab"):
        take(book, path)

    taken = book.cancel_below(parse_lease_path(f"{NAME}/a"))

    assert [lease.path.path for lease in taken] == [b"/a/b", b"/a/c"]
    assert [lease.path.path for lease in book.leases()] == [b"/ab"]


def test_a_committed_lease_is_gone_and_its_answer_stays(book):
    lease = take(book, "/a")
    book.begin_commit(lease.token, base_revision=3, at_least_s=1000)
    book.finish_commit(lease.token, Answer("new", 4, "root"))

    assert book.answer(lease.token) == Answer("new", 4, "root")
    take(book, "/a")


def test_a_second_attempt_knows_where_the_first_began(book):
    lease = take(book, "/a")

    assert book.begin_commit(lease.token, base_revision=3, at_least_s=1)[1] == 3
    assert book.begin_commit(lease.token, base_revision=5, at_least_s=1)[1] == 3


def test_a_lease_does_not_run_out_under_its_commit(book, clock):
    lease = take(book, "/a", ttl_s=10)
    book.begin_commit(lease.token, base_revision=3, at_least_s=1000)
    clock.advance(900)

    with pytest.raises(PathBusyError):
        take(book, "/a")


def test_a_closed_repository_takes_no_leases_and_keeps_those_it_gave(book):
    lease = take(book, "/a")
    book.set_open(NAME, is_open=False)

    with pytest.raises(ConflictError):
        take(book, "/b")
    assert book.find(lease.token)
    book.set_open(NAME, is_open=True)
    take(book, "/b")


def test_only_its_owner_can_read_the_book(book, tmp_path):
    assert (tmp_path / "leases.db").stat().st_mode & 0o77 == 0
