"""A repository to be replicated, and a reader that believes nothing of the replica."""

import random
import shutil
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from cernvm.core.home import Home
from cernvm.fs.format.compress import inflate
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.signature import CryptographyVerifier
from cernvm.fs.format.trust import open_manifest, verify_repository
from cernvm.fs.publish.creating import create_repository
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.repository import Repository, new_repository, open_storage
from cernvm.fs.replicate.replica import Replica
from cernvm.fs.replicate.replicating import replicate
from cernvm.fs.replicate.scope import Scope
from cernvm.fs.store.local import LocalStore
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import unpack_catalog, unpack_history, unpack_profiles
from system.sick import SickServer

NAME = "t.cernvm.test"


def plant(tree, *, seed=1, folders=4, files=12):
    """A tree with nested catalogs, small files for packs, a chunked one and twins."""
    noise = random.Random(seed)
    for number in range(folders):
        folder = tree / f"d{number}"
        folder.mkdir(parents=True, exist_ok=True)
        if number % 2:
            (folder / ".cvmfscatalog").touch()
        for name in range(files):
            (folder / f"f{name}").write_bytes(noise.randbytes(noise.randrange(1, 4000)))
        (folder / "twin").write_bytes(b"the same everywhere")
    deeper = tree / "d1/deeper"
    deeper.mkdir(exist_ok=True)
    (deeper / ".cvmfscatalog").touch()
    (deeper / "last").write_bytes(b"%d" % seed)
    (tree / "empty").touch()
    (tree / "link").symlink_to("d0/f0")
    return tree


@dataclass
class Upstream:
    """A repository that is published and served, with the faults that a test wants."""

    repository: Repository
    store: ObjectStore
    tree: Path
    server: SickServer
    revisions: list = field(default_factory=list)

    @property
    def key(self):
        return self.repository.keys.public

    def publish(self, tag="", *, tree=None):
        published = publish_tree(
            self.repository, self.store, tree or self.tree, options=Options(tag=tag)
        )
        self.revisions.append(published)
        return published

    def change(self, seed):
        """Another revision, which shares most of its objects with the last."""
        (self.tree / "d1/deeper/last").write_bytes(b"%d" % seed)
        (self.tree / f"d0/of-{seed}").write_bytes(b"only in %d" % seed)
        return self.publish(f"v{seed}")

    def replica(self, folder, **scope):
        return Replica(
            NAME,
            str(folder),
            (self.server.url,),
            (self.repository.keys.public,),
            Scope(**{"tags": (), **scope}),
        )


def make_upstream(base, keys, *, has_packs=True, big_bytes=0):
    """A repository below `base` and its tree; nothing is published yet."""
    repository = _repository(base, has_packs=has_packs)
    shutil.copytree(keys, repository.keys.folder)
    create_repository(Home(base / "upstream"), repository)
    tree = plant(base / "tree")
    if big_bytes:
        (tree / "d1/big").write_bytes(random.Random(7).randbytes(big_bytes))
    return open_upstream(base, has_packs=has_packs)


def open_upstream(base, *, has_packs=True):
    """What `make_upstream` made, or a copy of it, served; whoever calls closes the server."""
    repository = _repository(base, has_packs=has_packs)
    store = open_storage(repository)
    return Upstream(repository, store, base / "tree", SickServer(store.folder))


def _repository(base, *, has_packs):
    return replace(new_repository(Home(base / "upstream"), NAME), has_packs=has_packs)


def bring(replica, **words):
    """Replicate into the replica's folder; gives what was done and the store."""
    store = LocalStore(Path(replica.storage))
    return replicate(replica, store, **words), store


def read_replica_back(store, key, *, paths=(), with_packs=True):
    """The manifest and every object below it, each checked; of a partial replica only what it must hold."""
    raw = store.get(".cvmfspublished")
    certificate = inflate(
        store.get(object_path(open_manifest(raw, name=NAME).certificate, ObjectKind.CERTIFICATE)),
        limit_bytes=1 << 16,
    )
    manifest = verify_repository(
        name=NAME,
        manifest_bytes=raw,
        certificate=certificate,
        whitelist_bytes=store.get(".cvmfswhitelist"),
        master_keys=[key.read_bytes()],
        now=datetime.now(UTC),
        verifier=CryptographyVerifier(),
    )
    if manifest.history is not None:
        unpack_history(_content(store, manifest.history, ObjectKind.HISTORY))
    assert str(manifest.root_catalog).encode() in store.get(".cvmfsreflog")
    return manifest, read_tree_back(
        store, manifest.root_catalog, paths=paths, with_packs=with_packs
    )


def read_tree_back(store, root, *, paths=(), at=b"", with_packs=True):
    """Every object of a revision, each checked: {path: digests}."""
    data = _content(store, root, ObjectKind.CATALOG)
    catalog = unpack_catalog(data)
    found = {}

    def is_wanted(path):
        return not paths or any(path == p or path.startswith(p + b"/") for p in paths)

    for item in catalog.items:
        if item.entry.is_external or not is_wanted(item.path):
            continue
        digests = [(chunk.digest, ObjectKind.PARTIAL) for chunk in item.chunks]
        if item.entry.digest is not None:
            digests.append((item.entry.digest, ObjectKind.PLAIN))
        for digest, kind in digests:
            check_object(store, digest, kind)
        found[item.path] = digests
    if with_packs and is_wanted(at):
        for stretch in catalog.packs:
            check_object(store, stretch.pack.digest, ObjectKind.PACK)
        for _, digest in unpack_profiles(data):
            check_object(store, digest, ObjectKind.PROFILE)
    for nested in catalog.nested:
        if is_wanted(nested.path) or any(p.startswith(nested.path + b"/") for p in paths):
            found |= read_tree_back(
                store, nested.digest, paths=paths, at=nested.path, with_packs=with_packs
            )
    return found


def check_object(store, digest, kind):
    stored = store.get(object_path(digest, kind))
    assert digest.algorithm.digest(stored) == digest
    return stored


def _content(store, digest, kind):
    return inflate(check_object(store, digest, kind), limit_bytes=1 << 30)
