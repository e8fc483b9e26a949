"""History and reflog as values."""

from datetime import UTC, datetime, timedelta

from cernvm.core.digest import Algorithm
from cernvm.fs.format.history import Branch, Tag, automatic_name, without_old
from cernvm.fs.format.reflog import ReferenceKind
from cernvm.fs.survey.database import (
    extend_reflog,
    pack_history,
    parse_history,
    parse_reflog,
    shrink_reflog,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def digest(number):
    return Algorithm.SHA1.digest(b"%d" % number)


def tag(name, days_ago=0.0, branch=""):
    return Tag(name, digest(1), 1, NOW - timedelta(days=days_ago), "why", 4096, branch)


def test_tags_and_branches_survive_being_packed():
    tags = (tag("v1"), tag("fix-1", branch="fix"), tag("deep", branch="fix-of-fix"))
    branches = (Branch("fix", "", 3), Branch("fix-of-fix", "fix", 4))

    packed = pack_history(name="t.cernvm.test", tags=tags, previous=None, branches=branches)

    history = parse_history(packed)
    assert (history.tags, history.branches) == (tags, branches)


def test_only_names_that_the_publisher_gave_grow_old():
    old, young = automatic_name(NOW - timedelta(days=40)), automatic_name(NOW - timedelta(days=1))
    tags = (tag(old, 40), tag(young, 1), tag("generic-mine", 40), tag("v1", 400))

    kept = without_old(tags, now=NOW, days=30)

    assert [one.name for one in kept] == [young, "generic-mine", "v1"]


def test_a_reflog_loses_what_is_gone_and_the_room_it_took():
    references = [(digest(n), ReferenceKind(n % 4)) for n in range(2000)]
    full = extend_reflog(None, name="t.cernvm.test", references=references, now=NOW)

    shrunk = shrink_reflog(full, [digest(n) for n in range(10, 2000)])

    left = {(one.digest, one.kind, one.listed_at) for one in parse_reflog(shrunk)}
    assert left == {(digest(n), ReferenceKind(n % 4), NOW) for n in range(10)}
    assert len(shrunk) < len(full) // 4
