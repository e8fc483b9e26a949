"""A revision changes under a mount whose kernel is told name by name, or, of too many names, of all at once."""

import os
import threading
import time

import pytest

from attack.fs_reader.forge import CatalogMaker, Client, Forge, directory, entry
from cernvm.core.errors import NotFoundError
from cernvm.fs.format.entry import EntryFlag
from cernvm.fs.fuse import KernelSettings, Notifier, Session, Validity, attach, detach
from cernvm.fs.mount import follow
from cernvm.fs.mount.follow import Follower
from cernvm.fs.mount.view_operations import ViewOperations

FOR_EVER = Validity(86400, 86400, 86400)
NEXT_PAGES = b"changed " * 4096


class Followed:
    """A forged repository, mounted by a thread of the test, whose revisions follow each other at once."""

    def __init__(self, point, *, epochs):
        self.point = point
        self.forge = Forge()
        self.publish(1, self.first())
        self.client = Client(self.forge.documents)
        self.view = self.client.mount()
        self.operations = ViewOperations(self.view)
        self.reads, self.shown_at = [], []
        self.operations.read = self.note_read
        self.descriptor = attach(point, source="forged.test")
        self.follower = Follower(
            self.view,
            self.operations,
            Notifier(self.descriptor, has_epochs=epochs),
            on_changing=lambda: self.shown_at.append(self.seen()),
        )
        self.session = Session(
            self.descriptor,
            self.operations,
            validity=FOR_EVER,
            settings=KernelSettings(epochs=epochs),
        )
        ready = threading.Event()
        self.thread = threading.Thread(
            target=self.session.serve, kwargs={"ready": ready.set}, daemon=True
        )
        self.thread.start()
        assert ready.wait(5)

    def note_read(self, inode, *rest):
        self.reads.append(inode)
        return ViewOperations.read(self.operations, inode, *rest)

    def seen(self):
        """What is shown, what is known to come, and whether the kernel may remember it."""
        may_remember = self.operations.generation is not None
        return self.view.revision, self.view.repository.revision.number, may_remember

    def publish(self, revision, entries):
        self.forge.publish(CatalogMaker(b"", entries), revision=revision)

    def first(self):
        file = self.forge.file
        linked = {"hardlink_group": 1, "link_count": 2}
        return {
            b"/same": file(b"same", b"same content"),
            b"/changes": file(b"changes", b"old"),
            b"/goes": file(b"goes", b"going"),
            b"/folder": directory(b"folder"),
            b"/folder/a": file(b"a", b"linked", **linked),
            b"/folder/b": file(b"b", b"linked", **linked),
            b"/folder/deep": directory(b"deep"),
            b"/folder/deep/f": file(b"f", b"deep old"),
            b"/becomes": directory(b"becomes"),
        }

    def second(self):
        file = self.forge.file
        linked = {"hardlink_group": 1, "link_count": 2, "mtime_s": 7}
        return {
            b"/same": file(b"same", b"same content", mtime_s=1234567),
            b"/changes": file(b"changes", NEXT_PAGES),
            b"/comes": file(b"comes", b"new"),
            b"/folder": directory(b"folder", mtime_s=5),
            b"/folder/a": file(b"a", b"linked", **linked),
            b"/folder/b": file(b"b", b"linked", **linked),
            b"/folder/deep": directory(b"deep"),
            b"/folder/deep/f": file(b"f", b"deep new"),
            b"/folder/deep/g": file(b"g", b""),
            b"/becomes": entry(
                b"becomes",
                mode=0o120777,
                flags=EntryFlag.FILE | EntryFlag.SYMLINK,
                symlink=b"folder",
                size=6,
            ),
        }

    def change(self):
        self.publish(2, self.second())
        assert self.follower.reload()

    def end(self):
        try:
            detach(self.point, lazily=True)
        except NotFoundError:
            pass
        self.thread.join(5)
        os.close(self.descriptor)
        assert not self.thread.is_alive()


@pytest.fixture(params=["few names", "many names", "many names, no epochs"])
def mounted(point, request, monkeypatch):
    if request.param != "few names":
        monkeypatch.setattr(follow, "MAX_EXPIRED", 2)
    followed = Followed(point, epochs=request.param != "many names, no epochs")
    followed.loses_pages = request.param == "many names"
    yield followed
    followed.end()


def look_at_everything(point):
    seen = {}
    for folder, _, names in os.walk(point):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                seen[os.path.relpath(path, point)] = file.read()
    return seen


def test_who_guards_a_revision_hears_of_it_before_anybody_sees_it(mounted):
    mounted.change()

    assert mounted.shown_at == [(1, 2, False)]


def test_after_a_change_nothing_old_is_seen_and_nothing_new_is_missed(mounted, point):
    before = look_at_everything(point)
    assert before["changes"] == b"old"
    assert not (point / "comes").exists()
    assert sorted(os.listdir(point / "folder/deep")) == ["f"]
    (point / "folder/a").stat()
    (point / "folder/b").stat()

    mounted.change()

    assert (point / "changes").stat().st_size == len(NEXT_PAGES)
    assert (point / "changes").read_bytes() == NEXT_PAGES
    assert (point / "comes").read_bytes() == b"new"
    assert not (point / "goes").exists()
    assert (point / "becomes").is_symlink()
    assert sorted(os.listdir(point / "folder/deep")) == ["f", "g"]
    assert (point / "folder/deep/f").read_bytes() == b"deep new"
    assert (point / "same").stat().st_mtime == 1234567
    assert {(point / "folder" / name).stat().st_mtime for name in "ab"} == {7}


def test_an_open_file_keeps_its_content_whether_it_was_read_or_not(mounted, point):
    with (point / "changes").open("rb") as read, (point / "goes").open("rb") as unread:
        assert read.read() == b"old"

        mounted.change()

        read.seek(0)
        assert read.read() == b"old"
        assert unread.read() == b"going"
        assert (point / "changes").read_bytes() == NEXT_PAGES


def test_what_stayed_keeps_its_number_and_its_pages(mounted, point):
    look_at_everything(point)
    numbers = {name: (point / name).stat().st_ino for name in ("same", "folder", "changes")}
    mounted.reads.clear()

    mounted.change()
    assert (point / "same").read_bytes() == b"same content"

    assert mounted.reads == ([numbers["same"]] if mounted.loses_pages else [])
    assert (point / "same").stat().st_ino == numbers["same"]
    assert (point / "folder").stat().st_ino == numbers["folder"]
    assert (point / "changes").stat().st_ino != numbers["changes"]


def test_a_working_directory_lives_through_a_change(mounted, point):
    here = os.open(point / "folder/deep", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert os.listdir(here) == ["f"]

        mounted.change()

        assert sorted(os.listdir(here)) == ["f", "g"]
        with open(os.open("g", os.O_RDONLY, dir_fd=here), "rb") as file:
            assert file.read() == b""
    finally:
        os.close(here)


def test_no_program_sees_new_before_old(mounted, point):
    """Two files that change together: who has seen the new one never sees the other as it was."""
    stop, wrong = threading.Event(), []

    def compare():
        while not stop.is_set():
            is_new = (point / "changes").stat().st_size == len(NEXT_PAGES)
            if is_new and (point / "folder/deep/f").read_bytes() == b"deep old":
                wrong.append("new, then old")

    readers = [threading.Thread(target=compare) for _ in range(3)]
    for reader in readers:
        reader.start()
    time.sleep(0.1)
    mounted.change()
    time.sleep(0.1)
    stop.set()
    for reader in readers:
        reader.join(5)

    assert not wrong


def test_what_is_answered_while_a_change_is_made_is_not_remembered(mounted, point):
    with mounted.operations.changing():
        (point / "changes").stat()
        assert not (point / "comes").exists()
        os.listdir(point / "folder")
    seen = []
    lookup = mounted.operations.lookup
    mounted.operations.lookup = lambda parent, name, patience: (
        seen.append(name),
        lookup(parent, name, patience),
    )[1]

    (point / "changes").stat()
    (point / "comes").exists()

    assert seen == [b"changes", b"comes"]


def test_readers_during_a_change_see_either_content_whole(mounted, point):
    stop, wrong = threading.Event(), []

    def read():
        while not stop.is_set():
            content = (point / "changes").read_bytes()
            if content not in (b"old", NEXT_PAGES):
                wrong.append(content)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    time.sleep(0.1)
    mounted.change()
    time.sleep(0.1)
    stop.set()
    for reader in readers:
        reader.join(5)

    assert not wrong
    assert (point / "changes").read_bytes() == NEXT_PAGES


def test_of_too_many_known_files_the_kernel_forgets_the_oldest(point):
    followed = Followed(point, epochs=True)
    try:
        many = {b"/m%03d" % n: followed.forge.file(b"m%03d" % n, b"%d" % n) for n in range(200)}
        followed.publish(2, {**followed.second(), **many})
        followed.follower.reload()
        view = followed.view
        with (point / "m000").open("rb") as held:
            for number in range(200):
                (point / f"m{number:03}").stat()
            assert view.known_count > 200
            followed.follower.trim()
            assert view.known_count > 200, "there was no need"

            followed.follower._most_known = 60
            followed.follower.trim()

            end = time.monotonic() + 5
            while view.known_count > 60 and time.monotonic() < end:
                time.sleep(0.01)
            assert view.known_count <= 60
            assert held.read() == b"0"
        assert (point / "m000").read_bytes() == b"0"
        assert (point / "m199").read_bytes() == b"199"
    finally:
        followed.end()


def test_a_change_does_not_wait_for_a_look_up_that_waits_for_a_server(point):
    followed = Followed(point, epochs=True)
    if not followed.follower._notifier.increment_epoch():
        followed.end()
        pytest.skip("this kernel has no epochs (before Linux 6.16)")
    asked, arrived = threading.Event(), threading.Event()
    try_lookup, lookup = followed.view.try_lookup, followed.view.lookup

    def slow(parent, name, deadline):
        asked.set()
        arrived.wait(20)
        return lookup(parent, name, deadline)

    followed.view.try_lookup = lambda parent, name: (
        None if name == b"same" else try_lookup(parent, name)
    )
    followed.view.lookup = slow
    reader = threading.Thread(target=(point / "same").exists)
    try:
        (point / "changes").stat()
        reader.start()
        assert asked.wait(5)

        begun = time.monotonic()
        followed.change()

        assert time.monotonic() - begun < 5
        assert (point / "changes").stat().st_size == len(NEXT_PAGES)
        assert reader.is_alive()
    finally:
        arrived.set()
        reader.join(5)
        followed.end()
