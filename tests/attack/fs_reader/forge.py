"""Small repositories made to measure: honest ones, and signed ones that are hostile."""

import functools
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cernvm.core.clock import Deadline, FakeClock
from cernvm.core.digest import Algorithm
from cernvm.fs.cache import MemoryBreadcrumbs, MemoryCache
from cernvm.fs.format import catalog as rows
from cernvm.fs.format.blacklist import Blacklist
from cernvm.fs.format.compress import Compression, deflate
from cernvm.fs.format.entry import Entry, EntryFlag
from cernvm.fs.format.letter import Letter, format_letter, letter_digest
from cernvm.fs.format.manifest import Manifest, format_manifest
from cernvm.fs.format.objects import (
    MANIFEST_PATH,
    WHITELIST_PATH,
    ObjectKind,
    alternative_path,
    object_path,
    parse_object_path,
)
from cernvm.fs.format.pack import Pack, PackedObject, format_pack
from cernvm.fs.format.pack_table import (
    CREATE_PACKS,
    CREATE_PROFILES,
    INSERT_PACK,
    INSERT_PROFILE,
    PACKED_REVISION,
    PackedStretch,
    format_stretch,
)
from cernvm.fs.format.profile import format_profile
from cernvm.fs.format.signature import (
    CryptographyVerifier,
    create_certificate,
    create_private_key,
    public_key_of,
)
from cernvm.fs.format.whitelist import Whitelist, format_whitelist
from cernvm.fs.reader import open_repository
from cernvm.fs.vfs import ROOT_INODE, View
from cernvm.net import Chain, ChainFetcher, MemoryExchange

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHA1 = Algorithm.SHA1
NAME = "forged.cernvm.test"
MASTER_KEY, SIGNING_KEY, STRANGER_KEY = (create_private_key() for _ in range(3))
HOST = "http://host"


def directory(name, **more):
    return entry(name, mode=0o40755, size=4096, flags=EntryFlag.DIRECTORY, **more)


def entry(name, **more):
    defaults = {
        "mtime_s": 0,
        "uid": 0,
        "gid": 0,
        "mode": 0o100644,
        "flags": EntryFlag.FILE,
        "size": 0,
    }
    return Entry(name=name, **(defaults | more))


def row_of(path, value):
    return rows.format_entry(value, path, algorithm=SHA1)


@dataclass
class CatalogMaker:
    """An SQLite file under construction; `spoil` runs SQL at the end."""

    prefix: bytes = b""
    entries: dict = field(default_factory=dict)
    nested: list = field(default_factory=list)
    chunks: list = field(default_factory=list)
    binds: list = field(default_factory=list)
    spoil: list = field(default_factory=list)
    ttl_s: int = 60

    def bytes(self):
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.executescript(rows.CREATE)
        name = self.prefix.rpartition(b"/")[2]
        for path, value in {self.prefix: directory(name), **self.entries}.items():
            connection.execute(rows.INSERT_ENTRY, row_of(path, value))
        for path, digest in self.nested:
            connection.execute(rows.INSERT_NESTED, (path, str(digest), 0))
        for path, digest in self.binds:
            connection.execute(
                "INSERT INTO bind_mountpoints VALUES (CAST(? AS TEXT), ?, 0)", (path, str(digest))
            )
        for path, offset, size, digest in self.chunks:
            connection.execute(rows.INSERT_CHUNK, (*rows.path_key(path), offset, size, digest.raw))
        properties = rows.Properties(7, 1, 0, root_prefix=self.prefix, ttl_s=self.ttl_s)
        for key, value in rows.format_properties(properties):
            connection.execute("INSERT INTO properties VALUES (?, CAST(? AS TEXT))", (key, value))
        for sql in self.spoil:
            connection.execute(*sql) if isinstance(sql, tuple) else connection.execute(sql)
        data = connection.serialize()
        connection.close()
        return data


class Forge:
    """One repository's documents, as a host serves them."""

    def __init__(self, name=NAME):
        self.name = name
        self.documents = {}

    def store(self, content, kind=ObjectKind.PLAIN, *, stored=None):
        """Add an object; returns its digest."""
        stored = deflate(content) if stored is None else stored
        digest = SHA1.digest(stored)
        self.documents[object_path(digest, kind)] = stored
        return digest

    def file(self, name, content, **more):
        """The entry of a file whose object is stored."""
        return entry(name, size=len(content), digest=self.store(content), **more)

    def packed(self, maker, *stretches):
        """Let a catalog name packs of stretches, each a list of (path, content) in packing order; returns the packs.

        Of a third value in place of the content, the pack holds that instead: it lies.
        """
        packs = []
        for files in stretches:
            objects = []
            for _, content, *lie in files:
                stored = deflate(content)
                digest = SHA1.digest(stored)
                held = deflate(lie[0]) if lie else stored
                packed = PackedObject(digest, ObjectKind.PLAIN, Compression.ZLIB, len(held), 4096)
                objects.append((packed, held))
            data = format_pack(objects)
            digest = SHA1.digest(data)
            self.documents[object_path(digest, ObjectKind.PACK)] = data
            pack = Pack(digest, len(data), len(objects))
            packs.append(pack)
            row = format_stretch(PackedStretch(files[0][0], files[-1][0], pack))
            maker.spoil.append((INSERT_PACK, row))
        maker.spoil.insert(0, CREATE_PACKS)
        maker.spoil.append(f"INSERT INTO properties VALUES ('{PACKED_REVISION}', '1')")
        return packs

    def profiled(self, maker, profile):
        """Let the root catalog name a profile."""
        stored = deflate(format_profile(profile))
        digest = SHA1.digest(stored)
        self.documents[object_path(digest, ObjectKind.PROFILE)] = stored
        maker.spoil.insert(0, CREATE_PROFILES)
        maker.spoil.append((INSERT_PROFILE, (profile.label, str(digest))))
        maker.spoil.append(f"INSERT OR IGNORE INTO properties VALUES ('{PACKED_REVISION}', '1')")

    def catalog(self, maker):
        """Store a catalog; returns its digest."""
        return self.store(maker.bytes(), ObjectKind.CATALOG)

    def beside(self):
        """What `data/` has of root catalogs and certificates, under the alternative names."""
        found = {path: parse_object_path(path) for path in self.documents if "/" in path}
        kinds = (ObjectKind.CATALOG, ObjectKind.CERTIFICATE)
        return {
            path: alternative_path(digest, kind)
            for path, (digest, kind) in found.items()
            if kind in kinds
        }

    def publish(
        self,
        maker,
        *,
        revision=1,
        published_at=NOW,
        signing_key=SIGNING_KEY,
        certificate_key=SIGNING_KEY,
        listed_key=SIGNING_KEY,
        master_key=MASTER_KEY,
        expires_at=NOW + timedelta(days=30),
        manifest_name=None,
        whitelist_name=None,
        alternative_paths=False,
        history=None,
    ):
        """Sign a revision with this root catalog; the options break one link of the chain each."""
        certificate = certificate_of(certificate_key, self.name)
        listed = certificate_of(listed_key, self.name)
        root = maker if not isinstance(maker, CatalogMaker) else self.catalog(maker)
        manifest = Manifest(
            root_catalog=root,
            root_catalog_size_bytes=0,
            ttl_s=60,
            revision=revision,
            name=manifest_name or self.name,
            certificate=self.store(certificate, ObjectKind.CERTIFICATE),
            published_at=published_at,
            alternative_paths=alternative_paths,
            history=history,
        )
        self.documents[MANIFEST_PATH] = letter(
            format_manifest(manifest), lambda text: sign_sha1(signing_key, text)
        )
        der = CryptographyVerifier().read_certificate(listed).der
        whitelist = Whitelist(NOW, expires_at, whitelist_name or self.name, (SHA1.digest(der),))
        self.documents[WHITELIST_PATH] = letter(
            format_whitelist(whitelist), lambda text: sign_raw(master_key, text)
        )
        return self


# Loading a private key takes longer than everything else here, so each is loaded once.
private = functools.cache(lambda key: load_pem_private_key(key, None))
public = functools.cache(public_key_of)
certificate_of = functools.cache(lambda key, name: create_certificate(key, name=name, now=NOW))


def sign_sha1(key, text):
    return private(key).sign(text, padding.PKCS1v15(), hashes.SHA1())


def sign_raw(key, text):
    numbers = private(key).private_numbers()
    block = b"\x00\x01" + b"\xff" * (256 - 3 - len(text)) + b"\x00" + text
    signed = pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n)
    return signed.to_bytes(256, "big")


def letter(text, sign):
    digest = letter_digest(text, SHA1)
    return format_letter(Letter(text, digest, sign(str(digest).encode())))


def honest():
    """A repository with every kind of object and entry that matters."""
    forge = Forge()
    deep = CatalogMaker(b"/nested", {b"/nested/deep": forge.file(b"deep", b"deep content")})
    first, second = b"first chunk " * 100, b"second chunk " * 100
    chunked = entry(
        b"chunked", size=len(first) + len(second), flags=EntryFlag.FILE | EntryFlag.CHUNKED
    )
    mountpoint = directory(
        b"nested",
    )
    root = CatalogMaker(
        b"",
        {
            b"/plain": forge.file(b"plain", b"plain content"),
            b"/chunked": chunked,
            b"/nested": mountpoint,
        },
        nested=[(b"/nested", forge.catalog(deep))],
        chunks=[
            (b"/chunked", 0, len(first), forge.store(first, ObjectKind.PARTIAL)),
            (b"/chunked", len(first), len(second), forge.store(second, ObjectKind.PARTIAL)),
        ],
    )
    return forge.publish(root)


CONTENT = {
    b"/plain": b"plain content",
    b"/chunked": b"first chunk " * 100 + b"second chunk " * 100,
    b"/nested/deep": b"deep content",
}


class Client:
    """A reader of forged repositories; its cache and breadcrumbs outlive its mounts."""

    def __init__(self, *documents, keys=None, name=NAME, quota_bytes=1 << 26):
        self.name = name
        self.clock = FakeClock(NOW)
        self.cache = MemoryCache(quota_bytes=quota_bytes)
        self.breadcrumbs = MemoryBreadcrumbs()
        hosts = [HOST if n == 0 else f"{HOST}{n}" for n in range(len(documents))]
        self.exchange = MemoryExchange(dict(zip(hosts, documents, strict=True)))
        self.chain = Chain(tuple(hosts))
        self.keys = [public(MASTER_KEY)] if keys is None else keys
        self.ahead = None
        self.external = None
        self.pin = None
        self.blacklist = Blacklist
        self.second_keys = ()
        self.repository = None

    def mount(self, seconds=20):
        """Open the repository as a file system."""
        self.repository = repository = open_repository(
            self.name,
            fetcher=ChainFetcher(self.chain, self.exchange, clock=self.clock),
            cache=self.cache,
            breadcrumbs=self.breadcrumbs,
            master_keys=self.keys,
            clock=self.clock,
            ahead=self.ahead,
            external=self.external,
            pin=self.pin,
            blacklist=self.blacklist,
            second_keys=self.second_keys,
            deadline=self.deadline(seconds),
        )
        return View(repository, variables={})

    def deadline(self, seconds=20):
        return Deadline.after(seconds, self.clock)

    def inode(self, view, path):
        inode = ROOT_INODE
        for name in path.split(b"/")[1:]:
            inode = view.lookup(inode, name, self.deadline()).inode
        return inode

    def read(self, view, path):
        """The whole content of a file, as a reader of the mount would get it."""
        inode = self.inode(view, path)
        size = view.attributes(inode).size_bytes
        return view.read(inode, 0, size, self.deadline())

    def names(self, view, path=b""):
        inode = self.inode(view, path) if path else ROOT_INODE
        listed = view.listing(inode, 0, self.deadline())
        return {one.name for one in listed} - {b".", b".."}
