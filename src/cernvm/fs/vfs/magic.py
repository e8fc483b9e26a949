"""Extended attributes that tell about the client and the stored object; any path has them by name.

Source: the names are those of CernVM-FS; docs/formats/attributes.md.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cernvm.fs.format.entry import EntryKind
from cernvm.fs.format.statistics import Statistics
from cernvm.fs.reader import Repository
from cernvm.fs.vfs.inodes import Node
from cernvm.fs.vfs.rehash import digest_of_cached
from cernvm.net import url_path

MAX_VALUE_BYTES = 64 * 1024
PAGE_BYTES = 40_000
NOT_COUNTED = "n/a"

_KIB = 1024
_PAGE = re.compile(rb"(?P<name>.+)(?P<sign>[~@])(?P<page>\?|[0-9]{1,9})", re.DOTALL)
_SLOW = re.compile(rb"user\.lhash([~@].*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MagicSettings:
    """Who lists the attributes, and who may read which.

    Shape: `visibility` is `rootonly`, `always` or `never`; `protected` names, without `user.`, are read by root and
    members of `privileged_gids` only.
    """

    visibility: str = "rootonly"
    protected: tuple[str, ...] = ()
    privileged_gids: tuple[int, ...] = ()


class Magic:
    """The attributes of one repository; `facts` are those that only the opener of the client knows."""

    def __init__(
        self,
        repository: Repository,
        settings: MagicSettings | None = None,
        facts: Mapping[bytes, str] | None = None,
    ) -> None:
        self._repository = repository
        self._settings = settings or MagicSettings()
        self._facts = dict(facts or {})
        self._protected = {b"user." + os.fsencode(name) for name in self._settings.protected}

    def value(self, node: Node, name: bytes) -> bytes | None:
        """The value; None where the path has none of that name."""
        value = self._whole(node, name)
        if value is not None:
            return value[:MAX_VALUE_BYTES]
        paged = _PAGE.fullmatch(name)
        if paged is None:
            return None
        value = self._whole(node, paged["name"])
        return (
            None if value is None else _page(value, paged["page"], for_people=paged["sign"] == b"@")
        )

    def names(self, *, is_root: bool) -> Sequence[bytes]:
        """The names that a listing shows."""
        visibility = self._settings.visibility
        if visibility == "always" or (visibility == "rootonly" and is_root):
            names = {*REPOSITORY, *self._facts}
            if not _membership(self._repository):
                names.discard(b"user.authz")
            return tuple(sorted(names))
        return ()

    def is_slow(self, name: bytes) -> bool:
        """Whether the value has to be worked out, for which a reader may have to wait."""
        return _SLOW.fullmatch(name) is not None

    def is_denied(self, name: bytes, uid: int, gid: int) -> bool:
        """Whether a user may not read an attribute."""
        paged = _PAGE.fullmatch(name)
        plain = paged["name"] if paged else name
        return plain in self._protected and uid != 0 and gid not in self._settings.privileged_gids

    @property
    def is_protecting(self) -> bool:
        """Whether `is_denied` may ever be true."""
        return bool(self._protected)

    def _whole(self, node: Node, name: bytes) -> bytes | None:
        text = self._facts.get(name)
        if text is None and name in REPOSITORY:
            text = REPOSITORY[name](self._repository, node)
        elif text is None and name in ENTRY:
            text = ENTRY[name](self._repository, node)
        return None if text is None else text.encode("utf-8", "surrogateescape")


def _page(value: bytes, wanted: bytes, *, for_people: bool) -> bytes | None:
    pages = max(1, -(-len(value) // PAGE_BYTES))
    if wanted == b"?":
        return b"num_pages, %d" % pages
    number = int(wanted)
    if number >= pages:
        told = b"There is no such page; there are %d, from 0 on.\n" % pages
        return told if for_people else None
    part = value[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]
    return b"# page %d of %d, counted from 0\n%s" % (number, pages, part) if for_people else part


def _repository_counters(repository: Repository, _: Node) -> str | None:
    root = repository.revision.tree.root
    return None if root is None else _format_counters(root.statistics())


def _catalog_counters(repository: Repository, node: Node) -> str | None:
    """Of the catalog that describes the path's contents, or the path itself if it is no directory."""
    path = node.path if node.entry.is_directory else node.path.rpartition(b"/")[0]
    catalog = repository.revision.tree.try_folder(path)
    if catalog is None:
        return None
    mountpoint = catalog.mountpoint.decode("utf-8", "replace")
    head = f"catalog_hash: {catalog.digest}\ncatalog_mountpoint: {mountpoint}\n"
    return head + (_format_counters(catalog.statistics()))


def _format_counters(statistics: Statistics) -> str:
    total = statistics.total
    return "".join(f"{name},{getattr(total, name)}\n" for name in sorted(total.__slots__))


def _last_error_time(repository: Repository, _: Node) -> str:
    failures = repository.trace.failures()
    return str(int(failures[0].at.timestamp())) if failures else "0"


def _speed(repository: Repository, _: Node) -> str:
    traffic = repository.fetcher.traffic
    return str(int(traffic.received_bytes / _KIB / traffic.busy_s)) if traffic.busy_s else "n/a"


def _log(repository: Repository, _: Node) -> str:
    return "".join(
        f"[{failure.at:%d %b %Y %H:%M:%S} UTC] {failure.path.decode('utf-8', 'replace')}: "
        f"{failure.error}\n"
        for failure in reversed(repository.trace.failures())
    )


def _membership(repository: Repository) -> str | None:
    root = repository.revision.tree.root
    return None if root is None else root.properties.membership or None


def _open_descriptors(_: Repository, __: Node) -> str:
    return str(len(list(Path("/proc/self/fd").iterdir())))


def _uptime(_: Repository, __: Node) -> str:
    return str(int(time.monotonic() - _BEGAN) // 60)


def _digest(_: Repository, node: Node) -> str | None:
    return None if node.entry.digest is None else str(node.entry.digest)


def _local_digest(repository: Repository, node: Node) -> str | None:
    if node.entry.kind is not EntryKind.FILE or node.entry.digest is None:
        return None
    return digest_of_cached(repository.objects, node.entry) or "Not in cache"


def _chunk_list(_: Repository, node: Node) -> str | None:
    if node.entry.kind is not EntryKind.FILE:
        return None
    rows = [f"{p.key.digest},{p.offset},{p.size_bytes}" for p in node.content()]
    return "\n".join(["hash,offset,size", *rows, ""])


def _external_url(repository: Repository, node: Node) -> str | None:
    if repository.external is None or not node.entry.is_external:
        return None
    return f"{repository.external.hosts[0]}/{url_path(node.path)}"


def _target(_: Repository, node: Node) -> str | None:
    is_link = node.entry.kind is EntryKind.SYMLINK
    return node.entry.symlink.decode("utf-8", "surrogateescape") if is_link else None


def _of_file(text: Callable[[Node], str]) -> Value:
    return lambda _, node: text(node) if node.entry.kind is EntryKind.FILE else None


def _of_repository(text: Callable[[Repository], object]) -> Value:
    return lambda repository, _: str(text(repository))


Value = Callable[[Repository, Node], str | None]

_BEGAN = time.monotonic()

REPOSITORY: dict[bytes, Value] = {
    b"user.authz": lambda repository, _: _membership(repository),
    b"user.catalog_counters": _catalog_counters,
    b"user.expires": _of_repository(lambda repository: int(repository.reload_due_s // 60)),
    b"user.fqrn": _of_repository(lambda repository: repository.name),
    b"user.hitrate": _of_repository(lambda _: NOT_COUNTED),
    b"user.host": _of_repository(lambda repository: repository.fetcher.hosts[0]),
    b"user.host_list": _of_repository(lambda repository: ";".join(repository.fetcher.hosts)),
    b"user.logbuffer": _log,
    b"user.ncleanup24": _of_repository(lambda _: NOT_COUNTED),
    b"user.nclg": _of_repository(lambda repository: repository.revision.tree.attached_count),
    b"user.ndiropen": _of_repository(lambda _: NOT_COUNTED),
    b"user.ndownload": _of_repository(lambda repository: repository.fetcher.traffic.requests),
    b"user.nioerr": _of_repository(lambda repository: repository.failure_count),
    b"user.nopen": _of_repository(lambda _: NOT_COUNTED),
    b"user.pid": _of_repository(lambda _: os.getpid()),
    b"user.proxy": _of_repository(lambda repository: repository.fetcher.proxy),
    b"user.repo_counters": _repository_counters,
    b"user.revision": _of_repository(lambda repository: repository.revision.number),
    b"user.root_hash": _of_repository(lambda repository: repository.revision.root_catalog),
    b"user.rx": _of_repository(
        lambda repository: repository.fetcher.traffic.received_bytes // _KIB
    ),
    b"user.speed": _speed,
    b"user.timestamp_last_ioerr": _last_error_time,
    b"user.uptime": _uptime,
    b"user.usedfd": _open_descriptors,
    b"user.useddirp": _of_repository(lambda _: 0),
    b"user.version": _of_repository(lambda _: version("cernvm")),
}
"""What tells about the client and the repository: on every path, listed on the root."""

ENTRY: dict[bytes, Value] = {
    b"user.hash": _digest,
    b"user.lhash": _local_digest,
    b"user.chunk_list": _chunk_list,
    b"user.chunks": _of_file(lambda node: str(len(node.content()))),
    b"user.compression": _of_file(lambda node: node.entry.compression.name.lower()),
    b"user.direct_io": _of_file(lambda node: str(int(node.entry.is_direct_io))),
    b"user.external_file": _of_file(lambda node: str(int(node.entry.is_external))),
    b"user.external_url": _external_url,
    b"xfsroot.rawlink": _target,
}
"""What tells about one file or link: never listed."""
