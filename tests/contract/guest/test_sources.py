"""What every source of a context promises, for the twin, the file and the metadata service."""

import contextlib
import socket
import time

import pytest

from cernvm.context.encoding import MAX_TEXT_BYTES
from cernvm.core.clock import Deadline, FakeClock, SystemClock
from cernvm.core.errors import ContextFormatError, CvmError, HostError
from cernvm.guest.sources.ec2 import Ec2Source
from cernvm.guest.sources.local_file import FileSource
from cernvm.guest.sources.memory import MemorySource
from cernvm.guest.sources.port import Found, InstanceData
from cernvm.guest.sources.search import find_context
from contract.guest.imds import META, metadata_service

USER_DATA = b"[cernvm]\nshell = /bin/sh\n\xff\0binary"


@contextlib.contextmanager
def memory(tmp_path, data):
    yield MemorySource(None if data is None else Found(data))


@contextlib.contextmanager
def file(tmp_path, data):
    if data is not None:
        (tmp_path / "user-data").write_bytes(data)
    yield FileSource(tmp_path / "user-data")


@contextlib.contextmanager
def ec2(tmp_path, data):
    with metadata_service(data, *(["no_metadata"] if data is None else [])) as server:
        yield Ec2Source(server.url)


@pytest.fixture(params=[memory, file, ec2], ids=lambda kind: kind.__name__)
def source_with(request, tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda data: stack.enter_context(request.param(tmp_path, data))


@pytest.mark.parametrize("data", [b"", USER_DATA, bytes(MAX_TEXT_BYTES)], ids=len)
def test_gives_user_data_byte_for_byte(source_with, data):
    assert source_with(data).probe(Deadline.after(10)).user_data == data


def test_says_that_there_is_none(source_with):
    assert source_with(None).probe(Deadline.after(10)) is None


def test_never_shows_user_data_in_its_repr(source_with):
    assert "shell" not in repr(source_with(USER_DATA).probe(Deadline.after(10)))


@pytest.mark.parametrize("kind", [file, ec2], ids=lambda kind: kind.__name__)
def test_refuses_what_is_larger_than_any_user_data(tmp_path, kind):
    with (
        kind(tmp_path, bytes(MAX_TEXT_BYTES + 1)) as source,
        pytest.raises(ContextFormatError, match="larger"),
    ):
        source.probe(Deadline.after(10))


@pytest.mark.parametrize("faults", [(), ("v1_only",), ("no_length",)])
def test_the_metadata_service_is_read_in_both_versions(faults):
    with metadata_service(USER_DATA, *faults) as server:
        found = Ec2Source(server.url).probe(Deadline.after(10))

    assert found.user_data == USER_DATA
    assert found.instance == InstanceData(
        META["instance-id"], "ami-00000003", "m1.small", "r-47a5402e", "0",
        "worker-1.cernvm.test", "10.77.0.11",
    )  # fmt: skip


def test_a_lost_token_falls_back_to_version_1():
    with metadata_service(USER_DATA, "token_lost") as server:
        source = Ec2Source(server.url, request_timeout_s=0.3)

        assert source.probe(Deadline.after(10)).user_data == USER_DATA


def test_an_instance_without_user_data_has_an_empty_context():
    with metadata_service(None) as server:
        assert Ec2Source(server.url).probe(Deadline.after(10)).user_data == b""


def test_a_service_that_comes_up_late_is_found():
    with metadata_service(USER_DATA, failures=3) as server:
        assert Ec2Source(server.url).probe(Deadline.after(10)).user_data == USER_DATA


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("drip", "no whole answer"),
        ("half", "ends too early"),
        ("redirect", "status 302"),
        ("forbidden", "status 403"),
    ],
)
def test_a_bad_answer_is_an_error_within_the_deadline(fault, reason):
    begin = time.monotonic()
    with metadata_service(b"x" * 1000, fault) as server, pytest.raises(HostError, match=reason):
        Ec2Source(server.url, request_timeout_s=0.4).probe(Deadline.after(1))

    assert time.monotonic() - begin < 2.5


@contextlib.contextmanager
def black_hole():
    """Accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def nobody():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    yield address


@pytest.mark.parametrize("place", [black_hole, nobody], ids=lambda place: place.__name__)
def test_silence_ends_with_the_deadline(place):
    begin = time.monotonic()
    with place() as url, pytest.raises(HostError):
        Ec2Source(url, request_timeout_s=0.3).probe(Deadline.after(1))

    assert 0.9 < time.monotonic() - begin < 2.5


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("local-hostname", "evil\n127.0.0.1 bank.example", "hostname"),
        ("local-hostname", "a b", "hostname"),
        ("local-ipv4", "10.0.0.1 evil", "ipv4"),
        ("local-ipv4", "999.0.0.1", "ipv4"),
        ("instance-id", "i-\x1b[31m", "instance_id"),
    ],
)
def test_what_the_service_says_wrongly_is_left_out(key, value, field):
    with metadata_service(b"", meta={key: value}) as server:
        found = Ec2Source(server.url).probe(Deadline.after(10))

    assert getattr(found.instance, field) == ""


def test_the_first_source_with_a_context_wins_and_each_is_accounted_for():
    clock = FakeClock()
    sources = [
        MemorySource(None, name="disk", delay_s=0.25),
        MemorySource(error=HostError("http://x", "broken"), name="cloud"),
        MemorySource(Found(b"x"), name="file"),
        MemorySource(Found(b"y"), name="never"),
    ]

    search = find_context(sources, clock)

    assert search.found.user_data == b"x"
    assert [(one.source, one.outcome, one.took_ms) for one in search.attempts] == [
        ("disk", "absent", 250),
        ("cloud", "failed", 0),
        ("file", "found", 0),
    ]
    assert search.attempts[1].reason == "http://x: broken"


def test_a_search_has_one_budget_for_all_sources():
    clock = FakeClock()
    slow = [MemorySource(Found(b"x"), delay_s=20, name=name) for name in "ab"]
    slow[0].found = None

    search = find_context(slow, clock, budget_s=30)

    assert search.found is None
    assert clock.elapsed_s == 30
    assert [one.outcome for one in search.attempts] == ["absent", "failed"]


def test_an_unreadable_file_is_an_error_of_ours(tmp_path):
    with pytest.raises(CvmError):
        FileSource(tmp_path).probe(Deadline.after(1, SystemClock()))
