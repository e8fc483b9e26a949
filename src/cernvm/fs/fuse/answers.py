"""From a request's bytes to the file system's verbs and back to an answer's bytes; one short function per opcode."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cernvm.fs.fuse.opening import OpenFiles
from cernvm.fs.fuse.operations import Operations, Patience
from cernvm.fs.fuse.protocol import (
    ROOT_INODE,
    InitFlag,
    Opcode,
    OpenFlag,
    Request,
    pack_absence,
    pack_attributes,
    pack_directory_entry,
    pack_entry,
    pack_open,
    pack_size,
    pack_space,
    parse_name,
    parse_read,
    parse_xattr,
)
from cernvm.fs.fuse.values import LONGEST_NAME_BYTES, Validity

# Every path leads through the root: a mount whose server died stops to look usable when these seconds have passed,
# whatever else the kernel remembers of it.
OF_ROOT = Validity(entry_s=0, attributes_s=1, negative_s=0)
FLEETING = Validity(entry_s=0, attributes_s=0, negative_s=0)
UNREFERENCED = pack_absence(FLEETING)  # in a listing, before a name that counts no reference


@dataclass(frozen=True, slots=True)
class Agreement:
    """What holds for a whole mount: the flags of INIT, how long the kernel may remember, and what is open."""

    flags: int
    validity: Validity
    files: OpenFiles

    def since(self, generation: int | None, operations: Operations) -> Validity:
        """For how long an answer holds that was begun at `generation`."""
        is_lasting = generation is not None and generation == operations.generation
        return self.validity if is_lasting else FLEETING


class Answer(NamedTuple):
    """A successful answer's body, and the inodes to which it gives the kernel one reference each."""

    body: bytes
    granted: Sequence[int] = ()


def answer(
    operations: Operations, agreement: Agreement, request: Request, patience: Patience
) -> Answer:
    """The answer to one request about files.

    Errors: `OSError` and `MustWaitError` as `Operations` gives them; `OSError(ENOSYS)` for an opcode that we do not
    serve, upon which the kernel mostly never asks again.
    """
    respond = _RESPONSES.get(request.opcode)
    if respond is None:
        raise OSError(errno.ENOSYS, "not served")
    return respond(operations, agreement, request, patience)


def _lookup(
    operations: Operations, agreement: Agreement, request: Request, patience: Patience
) -> Answer:
    name = parse_name(request.body)
    if len(name) > LONGEST_NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, "no name is that long")
    generation = operations.generation
    found = operations.lookup(request.inode, name, patience)
    validity = agreement.since(generation, operations)
    if found is None:
        return Answer(pack_absence(validity))
    return Answer(pack_entry(found, validity), (found.inode,))


def _getattr(
    operations: Operations, agreement: Agreement, request: Request, patience: Patience
) -> Answer:
    generation = operations.generation
    found = operations.attributes(request.inode, patience)
    if request.inode == ROOT_INODE:
        return Answer(pack_attributes(found, OF_ROOT))
    return Answer(pack_attributes(found, agreement.since(generation, operations)))


def _readlink(
    operations: Operations, _agreement: Agreement, request: Request, patience: Patience
) -> Answer:
    return Answer(operations.target(request.inode, patience))


def _open(
    operations: Operations, agreement: Agreement, request: Request, _patience: Patience
) -> Answer:
    return Answer(agreement.files.open(operations, request.inode))


def _opendir(
    _operations: Operations, agreement: Agreement, _request: Request, _patience: Patience
) -> Answer:
    if agreement.validity is FLEETING:
        return Answer(pack_open(0, 0))
    if agreement.flags & InitFlag.NO_OPENDIR_SUPPORT:
        raise OSError(errno.ENOSYS, "open directories have no state")
    return Answer(pack_open(0, OpenFlag.KEEP_CACHE | OpenFlag.CACHE_DIR))


def _release(
    _operations: Operations, agreement: Agreement, request: Request, _patience: Patience
) -> Answer:
    agreement.files.release(request.inode)
    return Answer(b"")


def _releasedir(
    _operations: Operations, _agreement: Agreement, _request: Request, _patience: Patience
) -> Answer:
    return Answer(b"")


def _read(
    operations: Operations, _agreement: Agreement, request: Request, patience: Patience
) -> Answer:
    offset, size_bytes = parse_read(request.body)
    return Answer(operations.read(request.inode, offset, size_bytes, patience))


def _readdir(
    operations: Operations, _agreement: Agreement, request: Request, patience: Patience
) -> Answer:
    offset, room = parse_read(request.body)
    records = []
    for child in operations.children(request.inode, offset, patience):
        found = child.attributes
        record = pack_directory_entry(found.inode, child.name, found.mode, child.offset)
        room -= len(record)
        if room < 0:
            break
        records.append(record)
    return Answer(b"".join(records))


def _readdirplus(
    operations: Operations, agreement: Agreement, request: Request, patience: Patience
) -> Answer:
    offset, room = parse_read(request.body)
    generation = operations.generation
    records, granted = [], []
    for child in operations.children(request.inode, offset, patience):
        found, name = child.attributes, child.name
        record = pack_directory_entry(found.inode, name, found.mode, child.offset)
        room -= len(record) + len(UNREFERENCED)
        if room < 0:
            break
        if name in (b".", b".."):
            records.append(UNREFERENCED + record)
            continue
        operations.remember(child)
        granted.append(found.inode)
        validity = agreement.since(generation, operations)
        records.append(pack_entry(found, validity) + record)
    return Answer(b"".join(records), granted)


def _statfs(
    operations: Operations, _agreement: Agreement, _request: Request, _patience: Patience
) -> Answer:
    return Answer(pack_space(operations.space()))


def _getxattr(
    operations: Operations, _agreement: Agreement, request: Request, patience: Patience
) -> Answer:
    room, name = parse_xattr(request.body)
    return _fitting(operations.xattr(request.inode, name, patience), room)


def _listxattr(
    operations: Operations, _agreement: Agreement, request: Request, patience: Patience
) -> Answer:
    room, _ = parse_xattr(request.body)
    names = operations.xattr_names(request.inode, patience)
    return _fitting(b"".join(name + b"\0" for name in names), room)


def _fitting(value: bytes, room: int) -> Answer:
    if room == 0:
        return Answer(pack_size(len(value)))
    if len(value) > room:
        raise OSError(errno.ERANGE, "the buffer is too small")
    return Answer(value)


_RESPONSES: dict[int, Callable[[Operations, Agreement, Request, Patience], Answer]] = {
    Opcode.LOOKUP: _lookup,
    Opcode.GETATTR: _getattr,
    Opcode.READLINK: _readlink,
    Opcode.OPEN: _open,
    Opcode.READ: _read,
    Opcode.STATFS: _statfs,
    Opcode.RELEASE: _release,
    Opcode.GETXATTR: _getxattr,
    Opcode.LISTXATTR: _listxattr,
    Opcode.OPENDIR: _opendir,
    Opcode.READDIR: _readdir,
    Opcode.RELEASEDIR: _releasedir,
    Opcode.READDIRPLUS: _readdirplus,
}
