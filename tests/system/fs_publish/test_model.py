"""Whatever is edited, published, tagged, rolled back, collected and replicated, and whoever dies in between: every
tagged revision reads back exactly, nothing reachable is ever deleted, and in the end nothing else is left.

The model is a plain folder and, for every tag, what the folder held when it was published.
"""

import os
import shutil
import stat
import tempfile
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cernvm.core.home import Home
from cernvm.fs.format.catalog import AUTOCATALOG_MARKER, CATALOG_MARKER
from cernvm.fs.publish.collecting import collect_garbage
from cernvm.fs.publish.creating import create_repository
from cernvm.fs.publish.keys import Keys, create_keys
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.repository import new_repository, open_storage
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.rolling_back import Rollback, roll_back
from cernvm.fs.publish.settings import Settings
from cernvm.fs.publish.tags import change_tags, find_tag, removing
from cernvm.fs.replicate.replica import Replica, open_replica
from cernvm.fs.replicate.replicating import read_replicated, replicate
from cernvm.fs.replicate.scope import Scope
from cernvm.fs.survey.collect import Keeping
from cernvm.fs.survey.reading import read_tags
from system.fs_publish.conftest import _read_catalog

NAME = "t.cernvm.test"
MARKERS = (CATALOG_MARKER, AUTOCATALOG_MARKER)
SMALL = Settings(  # so that little trees have chunks and catalogs that are split by themselves
    chunk_least_bytes=4096, chunk_mean_bytes=8192, chunk_most_bytes=16384, most_entries=8, fewest_entries=2,
)  # fmt: skip
names = st.sampled_from(["a", "b", "c", "\udcff\n"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
contents = st.binary(max_size=30) | st.integers(1, 40_000).map(
    lambda size: bytes([size % 251]) * size
)


class Died(BaseException):
    """Stands for SIGKILL: no handler may catch it, and whoever is asked to write afterwards is dead already."""


class Mortal:
    """A store whose user dies before its Nth change to it."""

    def __init__(self, store, left):
        self._store, self._left = store, left

    def __getattr__(self, name):
        value = getattr(self._store, name)
        if name in ("put", "replace", "delete"):

            def change(*arguments, **options):
                if self._left <= 0:
                    raise Died
                self._left -= 1
                return value(*arguments, **options)

            return change
        return value


class Publishing(RuleBasedStateMachine):
    """One repository, one folder that is published to it, one replica."""

    keys: Path
    serve = None  # exports a folder, gives its URL

    @initialize()
    def create(self):
        self.base = Path(tempfile.mkdtemp(prefix="model-"))
        self.home = Home(self.base / "home")
        shutil.copytree(self.keys, self.home.keys)
        self.repository = new_repository(self.home, NAME, storage=self.base / "www", settings=SMALL)
        create_repository(self.home, self.repository)
        self.store = open_storage(self.repository)
        self.tree = self.base / "tree"
        self.tree.mkdir()
        self.head = {}  # path: what stands there
        self.tags = {}  # name: such a dictionary
        self.replica = Replica(
            NAME,
            str(self.base / "replica"),
            (type(self).serve(self.base / "www"),),
            (self.repository.keys.public,),
            Scope(tags=("*",)),
        )
        self.replicated = None  # the tags of the model when the replica was made

    def teardown(self):
        try:
            if hasattr(self, "store"):
                self.check_the_end()
        finally:
            shutil.rmtree(getattr(self, "base", "/nonexistent"), ignore_errors=True)

    # The folder

    @rule(path=paths, content=contents)
    def write(self, path, content):
        target = self.free_place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            target = target / "file"
        remove(target)
        target.write_bytes(content)

    @rule(path=paths)
    def make_folder(self, path):
        place = self.free_place(path)
        if not os.path.lexists(place):
            place.mkdir(parents=True)

    @rule(path=paths, goal=paths)
    def link(self, path, goal):
        place = self.free_place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        remove(place)
        place.symlink_to(goal)

    @rule(path=paths, mode=st.sampled_from([0o755, 0o700, 0o4751]))
    def change_mode(self, path, mode):
        place = self.tree / path
        if place.exists() and not place.is_symlink() and self.is_real(place):
            place.chmod(mode)

    @rule(path=paths)
    def remove(self, path):
        if os.path.lexists(self.tree / path) and self.is_real(self.tree / path):
            remove(self.tree / path)

    @rule(path=paths, goal=paths)
    def move(self, path, goal):
        old, new = self.tree / path, self.tree / goal
        is_apart = not f"{goal}/".startswith(f"{path}/") and not f"{path}/".startswith(f"{goal}/")
        is_there = os.path.lexists(old) and self.is_real(old)
        if is_apart and is_there and self.is_real(new) and new.parent.is_dir():
            remove(new)
            old.rename(new)

    @rule(path=paths)
    def mark(self, path):
        place = self.tree / path
        if place.is_dir() and self.is_real(place / "x"):
            marker = place / os.fsdecode(CATALOG_MARKER)
            if marker.exists():
                marker.unlink()
            else:
                marker.touch()

    def free_place(self, path):
        """A path below the tree whose parents are folders, made so by removing what is in the way."""
        place = self.tree
        for name in path.split("/")[:-1]:
            place = place / name
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                remove(place)
        return self.tree / path

    def is_real(self, place):
        """Whether no symbolic link leads there."""
        return not any(p.is_symlink() for p in place.parents if p.is_relative_to(self.tree))

    # The repository

    @rule(name=st.sampled_from(["", "one", "two", "three"]))
    def publish(self, name):
        self.do(lambda store: self.publish_to(store, name, "/"), seen(self.tree), name)

    @rule(name=st.sampled_from(["", "four", "five"]), at=st.sampled_from(["/a", "/at/b", "/a/b/c"]))
    def publish_below(self, name, at):
        expected = dict(self.head)
        while (clash := blocking(expected, os.fsencode(at))) is not None:
            forget(expected, clash)
        forget(expected, os.fsencode(at))
        for parent in parents(os.fsencode(at)):
            expected.setdefault(parent, ("folder",))
        expected[os.fsencode(at)] = ("folder",)
        expected |= {os.fsencode(at) + path: what for path, what in seen(self.tree).items()}
        if blocking(self.head, os.fsencode(at)) is not None:
            return  # something that is no folder leads there: an error, tested elsewhere
        self.do(lambda store: self.publish_to(store, name, at), expected, name)

    @rule(left=st.integers(0, 40), at=st.sampled_from(["/", "/a"]))
    def die_publishing(self, left, at):
        if at != "/" and blocking(self.head, os.fsencode(at)) is not None:
            return
        before = self.revision()
        try:
            self.publish_to(Mortal(self.store, left), "", at)
        except Died:
            pass
        if self.revision() != before:
            self.head = self.read(read_manifest(self.repository, self.store).root_catalog)

    @precondition(lambda self: self.tags)
    @rule(data=st.data())
    def roll_back(self, data):
        name = data.draw(st.sampled_from(sorted(self.tags)))
        expected = self.tags[name]
        target, drops = find_tag(self.listed(), name), data.draw(st.booleans())
        roll_back(self.repository, self.store, Rollback(target, drops_tags=drops))
        self.head = expected
        left = {tag.name for tag in self.listed()}
        assert drops or left >= set(self.tags)
        self.tags = {tag: self.tags[tag] for tag in self.tags if tag in left}
        assert name in self.tags

    @precondition(lambda self: self.tags)
    @rule(data=st.data())
    def remove_a_tag(self, data):
        name = data.draw(st.sampled_from(sorted(self.tags)))
        change_tags(self.repository, self.store, removing([name]))
        del self.tags[name]

    @rule(revisions=st.integers(0, 2))
    def collect(self, revisions):
        self.collect_in(self.store, revisions)
        self.check_tags(self.store, self.tags)

    @rule(revisions=st.integers(0, 1), left=st.integers(0, 30))
    def die_collecting(self, revisions, left):
        try:
            self.collect_in(Mortal(self.store, left), revisions)
        except Died:
            pass
        self.check_tags(self.store, self.tags)

    @rule()
    def replicate(self):
        store = open_replica(self.replica)
        replicate(self.replica, store)
        self.replicated = dict(self.tags)
        assert self.read(self.root_of(store), store) == self.head
        self.check_tags(store, self.replicated)

    @rule(left=st.integers(0, 60))
    def die_replicating(self, left):
        store = open_replica(self.replica)
        try:
            replicate(self.replica, Mortal(store, left))
        except Died:
            pass

    # What holds

    @invariant()
    def the_head_reads_back(self):
        if hasattr(self, "store"):
            assert self.read(read_manifest(self.repository, self.store).root_catalog) == self.head

    def check_the_end(self):
        self.check_tags(self.store, self.tags)
        keep = [tag.name for tag in self.listed() if tag.name in self.tags]
        extra = [
            tag.name
            for tag in self.listed()
            if tag.name not in keep and not tag.name.startswith("trunk")
        ]
        if extra:
            change_tags(self.repository, self.store, removing(extra))
        self.collect_in(self.store, 0)
        self.check_tags(self.store, self.tags)
        manifest = read_manifest(self.repository, self.store)
        needed = set()
        for root in {manifest.root_catalog, *(tag.root_catalog for tag in self.listed())}:
            needed |= reachable(self.store, root)
        stored = {path for path in self.store.paths("data/") if path[-1] not in "XHM"}
        assert stored == needed

    def do(self, action, expected, name):
        if name in self.tags:
            return
        published = action(self.store)
        self.head = expected
        if name:
            self.tags[name] = expected
        assert published.revision == self.revision()

    def publish_to(self, store, name, at):
        return publish_tree(self.repository, store, self.tree, options=Options(at=at, tag=name))

    def collect_in(self, store, revisions):
        keeping = Keeping(revisions=revisions, days=0, leftover_days=-1)
        collect_garbage(self.repository, store, keeping=keeping)

    def revision(self):
        return read_manifest(self.repository, self.store).revision

    def listed(self):
        return read_tags(read_manifest(self.repository, self.store), self.store)

    def check_tags(self, store, expected):
        roots = {tag.name: tag.root_catalog for tag in self.listed()}
        for name, content in expected.items():
            if name in roots:
                assert self.read(roots[name], store) == content

    def root_of(self, store):
        return read_replicated(store, NAME).root_catalog

    def read(self, root, store=None):
        found = {}
        _read_catalog(store or self.store, root, b"", found)
        return {
            path: shown(entry, content)
            for path, (entry, content) in found.items()
            if path and path.rpartition(b"/")[2] not in MARKERS
        }


def seen(tree):
    """What a folder holds, as `shown` tells it of a repository."""
    top = os.fsencode(tree)
    found = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            if name in MARKERS:
                continue
            path = os.path.join(folder, name)
            status = os.lstat(path)
            content = None
            if stat.S_ISREG(status.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else b""
            found[path[len(top) :]] = what(status.st_mode, content, target)
    return found


def shown(entry, content):
    return what(entry.mode, content, entry.symlink)


def what(mode, content, target):
    if stat.S_ISDIR(mode):
        return ("folder",)
    return ("link", target) if stat.S_ISLNK(mode) else ("file", stat.S_IMODE(mode), content)


def reachable(store, root):
    """The paths of all objects that a root catalog needs, read independently of the code that collects."""
    from cernvm.fs.format.objects import ObjectKind, object_path
    from cernvm.fs.publish.profiles import read_profiles
    from cernvm.fs.survey.reading import read_catalog

    catalog = read_catalog(root, store)
    found = {object_path(root, ObjectKind.CATALOG)}
    for item in catalog.items:
        if item.entry.digest is not None:
            found.add(object_path(item.entry.digest, ObjectKind.PLAIN))
        found |= {object_path(chunk.digest, ObjectKind.PARTIAL) for chunk in item.chunks}
    found |= {object_path(stretch.pack.digest, ObjectKind.PACK) for stretch in catalog.packs}
    assert not read_profiles(root, store)
    for nested in catalog.nested:
        found |= reachable(store, nested.digest)
    return found


def parents(path):
    return [path[:at] for at in range(1, len(path)) if path[at : at + 1] == b"/"]


def blocking(head, path):
    return next((p for p in parents(path) if p in head and head[p][0] != "folder"), None)


def forget(head, path):
    for known in [p for p in head if p == path or p.startswith(path + b"/")]:
        del head[known]


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def model_keys(tmp_path_factory):
    keys = Keys(tmp_path_factory.mktemp("model-keys"), NAME)
    create_keys(keys, now=datetime.now(UTC))
    return keys.folder


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_tagged_revision_reads_back_and_only_garbage_goes(model_keys, count, exported):
    machine = type("Machine", (Publishing,), {"keys": model_keys, "serve": staticmethod(exported)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=count(120, 20),
            stateful_step_count=25,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),  # making a failure smaller takes minutes
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.fixture
def exported():
    """Exports any number of folders over HTTP by one server, which ends with the test."""
    folders = []

    class Exchange(SimpleHTTPRequestHandler):
        def translate_path(self, path):
            _, number, rest = path.partition("?")[0].split("/", 2)
            return str(folders[int(number)] / rest)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
    server.daemon_threads = True
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()

    def export(folder):
        folders.append(folder)
        return f"http://127.0.0.1:{server.server_port}/{len(folders) - 1}"

    yield export
    server.shutdown()
    serving.join(10)
    server.server_close()
