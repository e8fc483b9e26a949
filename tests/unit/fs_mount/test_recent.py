import pytest

from cernvm.core.clock import FakeClock
from cernvm.core.errors import HostError
from cernvm.fs.mount.recent import FRESH_S, RecentFailures


def test_what_failed_just_now_fails_at_once_and_is_tried_again_later():
    clock = FakeClock()
    recent = RecentFailures(clock)
    recent.check("page")

    recent.note("page", HostError("http://h", "refused"))

    with pytest.raises(HostError):
        recent.check("page")
    recent.check("another page")
    clock.advance(FRESH_S)
    recent.check("page")
