import hashlib
import os
import threading

import pytest

from cernvm.core.errors import (
    DigestMismatchError,
    ExistsError,
    InvalidInputError,
    NotFoundError,
)

PATH = "jobs/7/1/a.root"


def put(storage, path=PATH, content=b"content", *, sha256=None, size=None):
    blocks = (content[start : start + 1000] for start in range(0, len(content), 1000))
    digest = sha256 or hashlib.sha256(content).hexdigest()
    return storage.put(
        path, blocks, size_bytes=len(content) if size is None else size, sha256=digest
    )


@pytest.mark.parametrize("content", [b"", b"x", os.urandom(1_000_003)], ids=["empty", "one", "big"])
def test_what_is_put_is_got(storage, content):
    stat = put(storage, content=content)

    assert b"".join(storage.get(PATH)) == content
    assert (stat.size_bytes, stat.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert storage.stat(PATH, verify=True) == storage.stat(PATH) == stat


def test_the_same_content_again_changes_nothing(storage):
    first = put(storage)

    assert put(storage) == first


def test_other_content_is_refused_and_the_first_stays(storage):
    put(storage)

    with pytest.raises(ExistsError, match=PATH):
        put(storage, content=b"other")

    assert b"".join(storage.get(PATH)) == b"content"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"sha256": "0" * 64}, DigestMismatchError),
        ({"size": 8}, InvalidInputError),
        ({"size": 6}, InvalidInputError),
        ({"sha256": "0" * 63}, InvalidInputError),
        ({"sha256": "G" * 64}, InvalidInputError),
    ],
)
def test_bytes_that_are_not_those_announced_are_not_kept(storage, change, error):
    with pytest.raises(error):
        put(storage, **change)

    assert storage.list() == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/../b",
        ".a",
        "a/.b",
        "a\\b\0",
        "a b",
        "é",
        "a/" * 20 + "a",
        "x" * 201,
    ],
)
def test_a_path_that_is_none_is_refused(storage, path):
    with pytest.raises(InvalidInputError):
        put(storage, path)
    with pytest.raises(InvalidInputError):
        storage.stat(path)


def test_what_does_not_exist_is_named(storage):
    for verb in (storage.stat, storage.delete, lambda path: list(storage.get(path))):
        with pytest.raises(NotFoundError, match="no-such"):
            verb("jobs/no-such")


def test_a_listing_is_what_is_below_a_folder(storage):
    for path in ("jobs/8/b", "jobs/7/a", "jobs/7/1/c", "jobs/70/d", "jobs/7"):
        put(storage, path)

    assert [stat.path for stat in storage.list("jobs/7")] == ["jobs/7/1/c", "jobs/7/a"]
    assert len(storage.list()) == 5


def test_a_deleted_object_is_gone_and_its_twin_stays(storage):
    put(storage, "a")
    put(storage, "b")

    storage.delete("a")

    assert [stat.path for stat in storage.list()] == ["b"]
    assert b"".join(storage.get("b")) == b"content"


def test_of_two_that_put_at_once_one_wins(storage):
    outcomes = []

    def attempt(content):
        try:
            outcomes.append(put(storage, content=content).sha256)
        except ExistsError:
            outcomes.append(None)

    threads = [threading.Thread(target=attempt, args=(bytes([n]) * 50_000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    winners = [sha256 for sha256 in outcomes if sha256]
    assert winners == [storage.stat(PATH, verify=True).sha256]
