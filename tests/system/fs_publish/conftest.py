"""Trees to publish, and a reader that believes nothing: every object by its digest, the whole chain of trust."""

import os
import shutil
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cernvm.fs.format.compress import Compression, Inflater, inflate
from cernvm.fs.format.entry import check_chunks
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.signature import CryptographyVerifier
from cernvm.fs.format.statistics import Counters, count_entries
from cernvm.fs.format.trust import open_manifest, verify_repository
from cernvm.fs.publish.creating import create_repository
from cernvm.fs.publish.keys import Keys, create_keys
from cernvm.fs.publish.repository import new_repository
from cernvm.fs.publish.settings import Settings
from cernvm.fs.store.local import LocalStore
from cernvm.fs.survey.database import unpack_catalog, unpack_history

# a sixteenth of what is usual: little trees have chunks, and are stored at once
CHUNKS = Settings(chunk_least_bytes=256 << 10, chunk_mean_bytes=512 << 10, chunk_most_bytes=1 << 20)


@pytest.fixture(scope="session")
def made_keys(tmp_path_factory):
    """Keys that are made once: RSA keys take their time."""
    keys = Keys(tmp_path_factory.mktemp("keys"), "t.cernvm.test")
    create_keys(keys, now=datetime.now(UTC))
    return keys


@pytest.fixture
def repository(home, made_keys):
    shutil.copytree(made_keys.folder, home.keys)
    made = new_repository(home, "t.cernvm.test", settings=CHUNKS)
    create_repository(home, made)
    return made


@pytest.fixture
def store(repository):
    return LocalStore(Path(repository.storage))


@pytest.fixture
def tree(tmp_path):
    """A small tree with everything that the format can hold."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "empty").write_bytes(b"")
    (root / "hello.txt").write_bytes(b"hello\n" * 1000)
    (root / "large").write_bytes(os.urandom(64 << 10) * 20)
    (root / "middle").write_bytes(bytes(320 << 10))
    folder = root / "folder with space"
    folder.mkdir(mode=0o750)
    os.chmod(folder, 0o2750)
    (folder / "link").symlink_to("../hello.txt")
    (folder / "dangling").symlink_to("$(ARCH:-none)/bin")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket"))
    (folder / "one").write_bytes(b"linked")
    os.link(folder / "one", folder / "two")
    (root / "sub").mkdir()
    os.link(folder / "one", root / "sub" / "elsewhere")
    for number in range(30):
        (root / "sub" / f"f{number}").write_bytes(b"%d" % number)
    (root / "sub" / ".cvmfscatalog").write_bytes(b"")
    (root / "sub" / "deeper").mkdir()
    (root / "sub" / "deeper" / ".cvmfscatalog").write_bytes(b"")
    (root / "sub" / "deeper" / "last").write_bytes(b"last")
    with open(os.fsencode(root) + b"/latin-\xe9\n", "wb") as file:
        file.write(b"latin")
    os.utime(root / "hello.txt", ns=(0, 1_600_000_000_123_456_789))
    os.utime(root / "empty", ns=(0, -5_000_000_001))
    os.chmod(root / "hello.txt", 0o4755)
    os.setxattr(root / "hello.txt", "user.note", b"\x00binary\xff")
    if os.geteuid() == 0:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chown(folder / "one", 1234, 4321)
    return root


def read_back(repository, store, *, may_run_ahead=False):
    """Every path of the served revision: {path: (entry, content)}, all checks done, and the manifest."""
    raw = store.get(".cvmfspublished")
    certificate = inflate(
        store.get(
            object_path(
                open_manifest(raw, name=repository.name).certificate, ObjectKind.CERTIFICATE
            )
        ),
        limit_bytes=1 << 16,
    )
    manifest = verify_repository(
        name=repository.name,
        manifest_bytes=raw,
        certificate=certificate,
        whitelist_bytes=store.get(".cvmfswhitelist"),
        master_keys=[repository.keys.public.read_bytes()],
        now=datetime.now(UTC),
        verifier=CryptographyVerifier(),
    )
    found = {}
    packed, _ = _read_catalog(store, manifest.root_catalog, b"", found)
    assert packed == manifest.root_catalog_size_bytes
    if manifest.history is not None:
        tags = {
            tag.name: tag
            for tag in unpack_history(_object(store, manifest.history, ObjectKind.HISTORY))
        }
        assert tags["trunk"].root_catalog == manifest.root_catalog
        assert tags["trunk"].revision == manifest.revision
    reflog = store.get(".cvmfsreflog")
    assert str(manifest.root_catalog).encode() in reflog
    # between reflog and manifest a publisher may die: then the reflog lists more
    assert may_run_ahead or repository.algorithm.digest(reflog) == manifest.reflog
    return found, manifest


def _read_catalog(store, digest, prefix, found):
    data = _object(store, digest, ObjectKind.CATALOG)
    read = unpack_catalog(data)
    assert read.properties.root_prefix == prefix
    for item in read.items:
        if item.entry.is_nested_mountpoint:
            continue
        assert item.path not in found
        found[item.path] = (item.entry, _content(store, item))
    totals = []
    for nested in read.nested:
        size, total = _read_catalog(store, nested.digest, nested.path, found)
        assert size == nested.size_bytes
        totals.append(total)
    own = count_entries(((i.entry, len(i.chunks)) for i in read.items), nested=len(read.nested))
    assert own == read.statistics.own
    assert sum(totals, Counters()) == read.statistics.subtree
    roots = {item.path: item.entry for item in read.items if item.entry.is_nested_mountpoint}
    assert set(roots) == {nested.path for nested in read.nested}
    for path, entry in roots.items():
        inner = found[path][0]
        assert (entry.mode, entry.mtime_s, entry.uid, entry.link_count) == (
            inner.mode,
            inner.mtime_s,
            inner.uid,
            inner.link_count,
        )
    return len(data), read.statistics.total


def _content(store, item):
    entry = item.entry
    if not stat.S_ISREG(entry.mode):
        return None
    if entry.is_chunked:
        pieces = check_chunks(item.chunks, size=entry.size, where=repr(item.path))
        content = b"".join(
            _object(store, p.digest, ObjectKind.PARTIAL, entry.compression) for p in pieces
        )
    else:
        content = _object(store, entry.digest, ObjectKind.PLAIN, entry.compression)
    assert len(content) == entry.size
    return content


def _object(store, digest, kind, compression=Compression.ZLIB):
    stored = store.get(object_path(digest, kind))
    assert digest.algorithm.digest(stored) == digest
    inflater = Inflater(compression, limit_bytes=1 << 28)
    content = b"".join(inflater.feed(stored))
    inflater.finish()
    return content


def check_equal(tree, found, at=b"", *, ignore=()):
    """The published paths below `at` are exactly those of the tree."""
    top = os.fsencode(tree)
    expected = {at}
    for folder, folders, files in os.walk(top):
        expected |= {at + os.path.join(folder, name)[len(top) :] for name in folders + files}
    below = {p for p in found if p == at or p.startswith(at + b"/")}
    assert below - set(ignore) == expected
    for path in expected:
        _check_entry(top + path[len(at) :], *found[path])


def _check_entry(place, entry, content):
    status = os.lstat(place)
    assert entry.mode == status.st_mode
    assert entry.mtime_total_ns == status.st_mtime_ns
    assert (entry.uid, entry.gid) == (status.st_uid, status.st_gid)
    if stat.S_ISREG(status.st_mode):
        with open(place, "rb") as file:
            assert content == file.read()
    if stat.S_ISLNK(status.st_mode):
        assert entry.symlink == os.readlink(place)
    if stat.S_ISDIR(status.st_mode):
        assert entry.link_count == 2 + sum(
            e.is_dir(follow_symlinks=False) for e in os.scandir(place)
        )
    assert entry.rdev == status.st_rdev
    names = [n for n in os.listxattr(place, follow_symlinks=False) if n.startswith("user.")]
    assert {os.fsdecode(key) for key in entry.xattrs} == set(names)
