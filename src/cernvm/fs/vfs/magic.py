"""Extended attributes that tell about the client and the stored object; shown by name on every path.

Source: the names are those of CernVM-FS; docs/formats/cache.md, "Magic attributes".
"""

from __future__ import annotations

from collections.abc import Callable

from cernvm.fs.format.entry import EntryKind
from cernvm.fs.format.statistics import Statistics
from cernvm.fs.reader import Repository
from cernvm.fs.vfs.inodes import Node

MAX_VALUE_BYTES = 64 * 1024
_KIB = 1024


def magic_value(repository: Repository, node: Node, name: bytes) -> bytes | None:
    """The value of a magic attribute; None where the path has none of that name."""
    if name in REPOSITORY:
        text = REPOSITORY[name](repository)
    elif name in ENTRY:
        text = ENTRY[name](node)
    elif name == b"user.catalog_counters":
        text = _catalog_counters(repository, node)
    else:
        return None
    return None if text is None else text.encode("utf-8", "surrogateescape")[:MAX_VALUE_BYTES]


def magic_names() -> tuple[bytes, ...]:
    """The names that the root lists."""
    return tuple(sorted((*REPOSITORY, b"user.catalog_counters")))


def _repository_counters(repository: Repository) -> str | None:
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
    return "".join(f"{name},{getattr(total, name)}\n" for name in total.__slots__)


def _last_error_time(repository: Repository) -> str:
    failures = repository.trace.failures()
    return str(int(failures[0].at.timestamp())) if failures else "0"


def _speed(repository: Repository) -> str:
    traffic = repository.fetcher.traffic
    return str(int(traffic.received_bytes / _KIB / traffic.busy_s)) if traffic.busy_s else "n/a"


def _digest(node: Node) -> str | None:
    return None if node.entry.digest is None else str(node.entry.digest)


def _chunk_list(node: Node) -> str | None:
    if node.entry.kind is not EntryKind.FILE:
        return None
    rows = [f"{p.key.digest},{p.offset},{p.size_bytes}" for p in node.content()]
    return "\n".join(["hash,offset,size", *rows, ""])


def _of_file(text: Callable[[Node], str]) -> Callable[[Node], str | None]:
    return lambda node: text(node) if node.entry.kind is EntryKind.FILE else None


REPOSITORY: dict[bytes, Callable[[Repository], str | None]] = {
    b"user.fqrn": lambda repository: repository.name,
    b"user.revision": lambda repository: str(repository.revision.number),
    b"user.root_hash": lambda repository: str(repository.revision.root_catalog),
    b"user.host": lambda repository: repository.fetcher.hosts[0],
    b"user.host_list": lambda repository: ";".join(repository.fetcher.hosts),
    b"user.proxy": lambda repository: repository.fetcher.proxy,
    b"user.nclg": lambda repository: str(repository.revision.tree.attached_count),
    b"user.ndownload": lambda repository: str(repository.fetcher.traffic.requests),
    b"user.rx": lambda repository: str(repository.fetcher.traffic.received_bytes // _KIB),
    b"user.speed": _speed,
    b"user.nioerr": lambda repository: str(repository.failure_count),
    b"user.timestamp_last_ioerr": _last_error_time,
    b"user.expires": lambda repository: str(int(repository.reload_due_s // 60)),
    b"user.repo_counters": _repository_counters,
}
ENTRY: dict[bytes, Callable[[Node], str | None]] = {
    b"user.hash": _digest,
    b"user.chunk_list": _chunk_list,
    b"user.chunks": _of_file(lambda node: str(len(node.content()))),
    b"user.compression": _of_file(lambda node: node.entry.compression.name.lower()),
    b"user.external_file": _of_file(lambda node: str(int(node.entry.is_external))),
    b"xfsroot.rawlink": lambda node: (
        node.entry.symlink.decode("utf-8", "surrogateescape")
        if node.entry.kind is EntryKind.SYMLINK
        else None
    ),
}
