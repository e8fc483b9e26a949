"""A repository with its gateway and its web server, real ones in this process; and publishers elsewhere."""

import contextlib
import shutil
import threading
from dataclasses import dataclass

import pytest

from cernvm.core.home import Home
from cernvm.fs.gateway.client import GatewayClient
from cernvm.fs.gateway.joining import join_repository, open_publication
from cernvm.fs.gateway.lease import LeasePath
from cernvm.fs.gateway.server import GatewayServer
from cernvm.fs.gateway.service import open_gateway
from cernvm.fs.publish.creating import create_repository
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.repository import (
    known_repositories,
    new_repository,
    open_storage,
    write_record,
)
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.serving import RepositoryServer
from cernvm.fs.survey.opened import Revision

NAME = "t.cernvm.test"


@pytest.fixture(scope="session")
def made_home(tmp_path_factory):
    """A home with a repository that is made once: keys and signatures take their time."""
    home = Home(tmp_path_factory.mktemp("made"))
    create_repository(home, new_repository(home, NAME))
    return home


@contextlib.contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@dataclass
class Site:
    """Where the repository is kept."""

    home: Home
    repository: object
    gateway: object
    url: str
    public: str

    @property
    def store(self):
        return open_storage(self.repository)

    @property
    def manifest(self):
        return read_manifest(self.repository, self.store)

    def files(self):
        """The last revision as {path: content or kind}, read back whole."""
        revision = Revision(self.store, self.manifest.root_catalog)
        return {path: _content(self.store, item) for path, item in _walk(revision)}

    def key(self, path=b"", *, admin=False):
        key = self.gateway.keys.add(LeasePath(NAME, path), is_admin=admin)
        return GatewayClient(self.url, key.secret), key

    def publisher(self, home, path=b"", objects=""):
        """Another machine, in a home of its own, with a key for a path."""
        _, key = self.key(path)
        repository = join_repository(
            home, NAME, gateway=self.url, public=self.public,
            key_file=self.gateway.keys.file(key.id), public_key=self.repository.keys.public,
            objects=objects,
        )  # fmt: skip
        return Publisher(repository)


@dataclass
class Publisher:
    """Who publishes through the gateway."""

    repository: object

    def publish(self, tree, at="/", **options):
        repository, store, sink = open_publication(self.repository, at)
        return publish_tree(repository, store, tree, options=Options(at=at, **options), sink=sink)


def _walk(revision, path=b"", holder=None):
    holder = holder or revision.root
    for item in revision.listing(path, holder):
        yield item.path, item
        if item.entry.is_directory:
            below = revision.below(item.path, holder)
            yield from _walk(revision, item.path, below)


def _content(store, item):
    from cernvm.fs.format.compress import inflate
    from cernvm.fs.format.entry import EntryKind
    from cernvm.fs.format.objects import ObjectKind, object_path

    entry = item.entry
    if entry.kind is EntryKind.SYMLINK:
        return entry.symlink
    if entry.kind is not EntryKind.FILE:
        return entry.kind
    if item.chunks:
        pieces = [store.get(object_path(c.digest, ObjectKind.PARTIAL)) for c in item.chunks]
    else:
        pieces = [store.get(object_path(entry.digest, ObjectKind.PLAIN))]
    return b"".join(inflate(piece, limit_bytes=1 << 30) for piece in pieces)


@pytest.fixture
def site(home, made_home):
    shutil.copytree(made_home.path, home.path)
    repository = new_repository(home, NAME)
    write_record(home, repository)
    gateway = open_gateway(home)
    with contextlib.ExitStack() as stack:
        stack.callback(gateway.book.close)
        server = stack.enter_context(running(GatewayServer("127.0.0.1", 0, gateway)))
        known = lambda: {one.name: one.storage for one in known_repositories(home)}  # noqa: E731
        web = stack.enter_context(running(RepositoryServer("127.0.0.1", 0, known)))
        yield Site(
            home, repository, gateway,
            f"http://127.0.0.1:{server.port}/api/v1", f"http://127.0.0.1:{web.port}/cvmfs/{NAME}",
        )  # fmt: skip


@pytest.fixture
def publishers(site, tmp_path):
    """As many publishers as are asked for, each in a home of its own."""
    made = []

    def make(path=b"", **how):
        made.append(site.publisher(Home(tmp_path / f"publisher{len(made)}"), path, **how))
        return made[-1]

    return make


@pytest.fixture
def grow(tmp_path):
    """Make a folder with these files."""
    made = []

    def make(**files):
        folder = tmp_path / f"tree{len(made)}"
        made.append(folder)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    return make
