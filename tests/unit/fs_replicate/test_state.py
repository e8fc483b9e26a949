"""What a replica's store says of itself."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from cernvm.fs.replicate.scope import Scope
from cernvm.fs.replicate.state import (
    STATE_PATH,
    collecting,
    format_date,
    note_status,
    parse_date,
    read_document,
    read_state,
    write_state,
)
from cernvm.fs.store.memory import MemoryStore

SECONDS = st.integers(0, 4_000_000_000).map(lambda s: datetime.fromtimestamp(s, UTC))


@given(moment=SECONDS)
def test_a_date_is_read_as_it_was_written(moment):
    assert parse_date(format_date(moment)) == moment


@given(data=st.binary(max_size=100))
def test_noise_is_no_state(data):
    store = MemoryStore()
    store.replace(STATE_PATH, data)
    assert read_state(store) is None


def test_a_state_vouches_for_its_own_scope_only():
    store = MemoryStore()
    write_state(store, Scope(paths=("/b", "/a")), is_working=False)
    state = read_state(store)
    assert state.vouches_for(Scope(paths=("/a", "/b"), tags=("v*",)))
    assert not state.vouches_for(Scope())
    assert not state.vouches_for(Scope(paths=("/a", "/b"), has_packs=False))


def test_a_copying_that_could_not_believe_the_catalogs_leaves_nothing_to_be_believed():
    store = MemoryStore()
    write_state(store, Scope(), is_working=True)
    assert read_state(store).vouches_for(Scope())
    write_state(store, Scope(), is_working=True, trusts_presence=False)
    assert not read_state(store).vouches_for(Scope())


def test_a_collection_that_breaks_off_leaves_catalogs_that_vouch_for_nothing():
    store = MemoryStore()
    write_state(store, Scope(), is_working=False)
    try:
        with collecting(store, now=lambda: datetime.now(UTC)):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert not read_state(store).vouches_for(Scope())


def test_after_a_collection_all_is_as_before_and_its_time_is_noted():
    store = MemoryStore()
    write_state(store, Scope(), is_working=False)
    note_status(store, {"last_snapshot": "then"})
    moment = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    with collecting(store, now=lambda: moment):
        pass
    assert read_state(store).vouches_for(Scope())
    assert read_document(store, ".cvmfs_status.json") == {
        "last_snapshot": "then",
        "last_gc": format_date(moment),
    }
