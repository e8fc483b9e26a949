"""A repository as a read-only file system, addressed by inode number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from cernvm.core.clock import Deadline
from cernvm.core.digest import parse_digest
from cernvm.core.errors import (
    CvmError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    PrerequisiteError,
    TrustError,
    UnavailableError,
)
from cernvm.fs.cache import Content
from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.entry import Entry, EntryKind
from cernvm.fs.reader import Catalog, Piece, Repository, Revision, Why, explain, read_pieces
from cernvm.fs.vfs.attributes import Attributes, FileSystemSize, ListedName, attributes_of
from cernvm.fs.vfs.inodes import ROOT_INODE, InodeTable, Node, inode_number
from cernvm.fs.vfs.kept import KeptListings
from cernvm.fs.vfs.ledger import InodeLedger, KnownInode
from cernvm.fs.vfs.listing import list_directory
from cernvm.fs.vfs.magic import Magic
from cernvm.fs.vfs.owners import OwnerSettings, owner_of
from cernvm.fs.vfs.recorder import Recorder
from cernvm.fs.vfs.variant import expand

MAX_QUICK_LISTING = 500

# What keeps a reader from what is there; a name that is not there is no failure.
_Failures = (TrustError, FormatError, UnavailableError, PrerequisiteError)


class View:
    """The file system that one mount shows.

    Errors: `NotFoundError` for a name that is not there or an inode that was forgotten, `TrustError`, `FormatError`,
    `UnavailableError` and `PrerequisiteError` as the reader gives them; these are also logged and kept for `why`.
    Concurrency: safe from any thread; no verb holds a lock while it waits.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        variables: Mapping[str, str] | None,
        owners: OwnerSettings | None = None,
        recorder: Recorder | None = None,
        magic: Magic | None = None,
    ) -> None:
        self._repository = repository
        self.magic = magic or Magic(repository)
        self._recorder = recorder
        self._variables = None if variables is None else dict(variables)
        self._owner_of = owner_of(owners or OwnerSettings())
        self._revision = revision = repository.revision
        root = self._directory_entry(revision, b"")
        assert root is not None
        self._inodes = InodeTable(root, revision)
        self._kept = KeptListings(revision)
        self._past: dict[str, Revision] = {}
        self._files: tuple[Revision, int] | None = None

    def try_lookup(self, parent: int, name: bytes) -> Attributes | None:
        """`lookup` without waiting; None when a catalog would have to be fetched first."""
        revision = self._revision
        if (known := self._kept.name(parent, name, revision)) is not None:
            found = known.attributes
            node = self._inodes.refer(known.path, known.entry, known.chunks, revision, found.inode)
            return found if node.inode == found.inode else found._replace(inode=node.inode)
        directory = self._inodes.node(parent)
        return self._lookup(directory, name, revision, revision.tree.try_folder)

    def lookup(self, parent: int, name: bytes, deadline: Deadline) -> Attributes:
        """The entry `name` of a directory; counts one reference, which `forget` gives back.

        Errors: `NotFoundError` when the directory surely has no such name (it may be remembered as absent).
        """
        revision = self._revision
        directory = self._inodes.node(parent)
        found = self._lookup(
            directory, name, revision, lambda path: revision.tree.folder(path, deadline)
        )
        assert found is not None
        return found

    def remember(self, listed: ListedName) -> None:
        """Count one reference to a listed entry, as `lookup` does: for READDIRPLUS, per name really handed out.

        Not for `.` and `..`, of which the kernel counts none.
        """
        revision, number = self._revision, listed.attributes.inode
        self._inodes.refer(listed.path, listed.entry, listed.chunks, revision, number)

    def keep_inodes(self, ledger: InodeLedger | None) -> None:
        """Record in a ledger which inodes the kernel knows, and know those that it has; None: no longer."""
        self._inodes.keep_in(ledger)

    def awaken(self, inode: int, deadline: Deadline | None = None) -> bool:
        """Find what stands behind an inode of which a verb raised `DormantInodeError`; then the verb may be repeated.

        Without a deadline from what is at hand: False when that is not enough.
        Errors: `NotFoundError` when it is nowhere; as `lookup`.
        """
        known = self._inodes.dormant(inode)
        if known is None:
            return True
        for revision in self._revisions_of(known):
            above = known.path.rpartition(b"/")[0]
            tree = revision.tree
            catalog = tree.folder(above, deadline) if deadline else tree.try_folder(above)
            if catalog is None:
                return False
            entry = catalog.find(known.path)
            chunks = catalog.chunks(known.path) if entry and entry.is_chunked else ()
            if entry and self._inodes.awaken(known, entry, chunks, revision):
                return True
        raise NotFoundError("inode", str(inode))

    def forget(self, inode: int, count: int) -> None:
        """Give back `count` references; unknown inodes and the root are ignored."""
        self._inodes.forget(inode, count)

    def attributes(self, inode: int) -> Attributes:
        """What stat shows of a referenced inode; never waits."""
        node = self._inodes.node(inode)
        if node.revision is not self._revision:
            self._refresh(node)
        return self._attributes(node.inode, node.entry)

    def try_listing(self, inode: int, offset: int) -> Sequence[ListedName] | None:
        """`listing` without waiting; None also for a directory that is not at hand because it is large."""

        def small_folder(revision: Revision, path: bytes) -> Catalog | None:
            catalog = revision.tree.try_folder(path)
            is_large = catalog is not None and catalog.has_more_children_than(
                MAX_QUICK_LISTING, path
            )
            return None if is_large else catalog

        return self._listing(inode, offset, small_folder)

    def listing(self, inode: int, offset: int, deadline: Deadline) -> Sequence[ListedName]:
        """Some names of a directory after `offset` (0: from the start), `.` and `..` first; empty at the end."""
        names = self._listing(
            inode, offset, lambda revision, path: revision.tree.folder(path, deadline)
        )
        assert names is not None
        return names

    def readlink(self, inode: int) -> bytes:
        """A symlink's target, variant links expanded."""
        entry = self._inodes.node(inode).entry
        if entry.kind is not EntryKind.SYMLINK:
            raise InvalidInputError("only symbolic links have a target")
        return expand(entry.symlink, self._variables)

    def try_read(self, inode: int, offset: int, size_bytes: int) -> bytes | None:
        """`read` without waiting; None when content would have to be fetched first."""
        objects = self._repository.objects
        return self._read(
            inode, offset, size_bytes, lambda piece: objects.cached(piece.key, piece.size_bytes)
        )

    def read(self, inode: int, offset: int, size_bytes: int, deadline: Deadline) -> bytes:
        """Content of a regular file; shorter than asked for only at its end."""
        objects = self._repository.objects
        data = self._read(
            inode,
            offset,
            size_bytes,
            lambda piece: objects.get_piece(piece, deadline),
            is_miss=True,
        )
        assert data is not None
        return data

    def is_uncached(self, inode: int) -> bool:
        """Whether a file's publisher wants nobody to keep its pages (direct I/O)."""
        return self._inodes.node(inode).entry.is_direct_io

    def backing(self, inode: int, least_bytes: int) -> int | None:
        """A descriptor, which the caller closes, of a cached file that is the whole content; None where there is none.

        It is the file that was verified, and stays right: content is replaced by name, never in place.
        """
        node = self._inodes.node(inode)
        if node.entry.size < least_bytes or node.entry.kind is not EntryKind.FILE:
            return None
        try:
            pieces = node.content()
        except CvmError:
            return None  # reading will say why
        if len(pieces) != 1:
            return None
        content = self._repository.objects.cached(pieces[0].key, pieces[0].size_bytes)
        return None if content is None else content.duplicate()

    def xattr_names(self, inode: int) -> Sequence[bytes]:
        """Stored extended attributes, and those of the magic ones that are listed there."""
        stored = self._inodes.node(inode).entry.xattrs
        magic = self.magic.names(is_root=inode == ROOT_INODE)
        return tuple(dict.fromkeys((*stored, *magic)))

    def xattr(self, inode: int, name: bytes) -> bytes | None:
        """An extended attribute's value, a magic one before a stored one; None where there is none (ENODATA)."""
        node = self._inodes.node(inode)
        value = self.magic.value(node, name)
        return node.entry.xattrs.get(name) if value is None else value

    def statfs(self) -> FileSystemSize:
        """What df shows; never waits."""
        usage = self._repository.usage()
        free_bytes = max(0, usage.quota_bytes - usage.used_bytes)
        return FileSystemSize(usage.quota_bytes, free_bytes, self._count_files())

    @property
    def repository(self) -> Repository:
        """What is shown."""
        return self._repository

    @property
    def revision(self) -> int:
        """The revision that is shown now."""
        return self._revision.number

    @property
    def reload_due_s(self) -> float:
        """Seconds until `reload` should be called; 0 when it is due."""
        return self._repository.reload_due_s

    def reload(
        self,
        deadline: Deadline,
        *,
        changing: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> bool:
        """Ask for a newer revision and show it; True when the tree has changed. The change is made within `changing`.

        A failure keeps the revision that is shown, is logged and kept for `why`, and is not raised. Open inodes keep
        their content: changed content has another inode number.
        """
        self._repository.reload(deadline)
        newest = self._repository.revision
        if newest is self._revision:
            return False
        last = self._revision
        with changing():
            self._revision = newest
        last.tree.let_go()
        return True

    @property
    def known_count(self) -> int:
        """How many inodes are referenced."""
        return len(self._inodes)

    def known_names(self) -> list[tuple[int, bytes]]:
        """Directory and name of all that is referenced, so that each can be told to be out of date."""
        known = self._inodes.known_paths()
        return _names_at([path for _, path in known], {path: inode for inode, path in known})

    def oldest_names(self, count: int) -> list[tuple[int, bytes]]:
        """Directory and name of what has been referenced the longest, directories left out."""
        paths = self._inodes.oldest_files(count)
        return _names_at(paths, {path: inode for inode, path in self._inodes.known_paths()})

    def known_inodes(self) -> Sequence[int]:
        """All that is referenced but the root."""
        return list(dict.fromkeys(inode for inode, _ in self._inodes.known_paths()))

    def known_folders(self) -> Sequence[int]:
        """The referenced directories but the root."""
        return self._inodes.known_folders()

    def why(self, path: bytes) -> Why:
        """What is known about a path, `/` at its start or not; never waits."""
        plain = path.strip(b"/")
        return explain(self._repository, b"/" + plain if plain else b"")

    def _revisions_of(self, known: KnownInode) -> Iterator[Revision]:
        """What is shown, and then what was shown when the inode was recorded."""
        shown = self._revision
        yield shown
        root = known.root_catalog
        if root != str(shown.root_catalog):
            if root not in self._past:
                self._past[root] = self._repository.past(parse_digest(root))
            yield self._past[root]

    def _lookup(
        self,
        directory: Node,
        name: bytes,
        revision: Revision,
        folder: Callable[[bytes], Catalog | None],
    ) -> Attributes | None:
        path = directory.path + b"/" + name
        try:
            catalog = folder(directory.path)
            if catalog is None:
                return None
            key = path_key(path)
            entry = catalog.find(path, key)
            if entry is None:
                raise NotFoundError("path", path.decode("utf-8", "replace"))
            chunks = catalog.chunks(path) if entry.is_chunked else ()
        except _Failures as error:
            self._repository.note_failure(path, error)
            raise
        number = inode_number(path, key, entry, chunks)
        node = self._inodes.refer(path, entry, chunks, revision, number)
        return self._attributes(node.inode, entry)

    def _listing(
        self, inode: int, offset: int, folder: Callable[[Revision, bytes], Catalog | None]
    ) -> Sequence[ListedName] | None:
        node = self._inodes.node(inode)
        revision = self._revision
        try:
            if (kept := self._kept.listing(inode, revision)) is not None:
                return kept.after(offset)
            catalog = folder(revision, node.path)
            if catalog is None:
                return None
            above = node.path.rpartition(b"/")[0]
            parent = (above, self._directory_entry(revision, above) or node.entry)
            listing = list_directory(catalog, (node.path, node.entry), parent, self._attributes)
            self._kept.keep(inode, listing, revision)
            return listing.after(offset)
        except _Failures as error:
            self._repository.note_failure(node.path, error)
            raise

    def _read(
        self,
        inode: int,
        offset: int,
        size_bytes: int,
        get: Callable[[Piece], Content | None],
        *,
        is_miss: bool = False,
    ) -> bytes | None:
        node = self._inodes.node(inode)
        if node.entry.kind is not EntryKind.FILE:
            raise InvalidInputError("only regular files have content")
        try:
            pieces = node.content()
            if is_miss and self._recorder is not None:
                self._recorder.add(node.path, pieces, offset)
            if is_miss and not node.entry.is_external:
                self._repository.ahead.missed(node.revision, node.path, pieces, offset)
            return read_pieces(
                pieces, offset, size_bytes, get, self._repository.objects.drop_damaged
            )
        except _Failures as error:
            self._repository.note_failure(node.path, error)
            raise

    def _attributes(self, inode: int, entry: Entry) -> Attributes:
        is_link = entry.is_symlink
        target = expand(entry.symlink, self._variables) if is_link else None
        return attributes_of(inode, entry, target, self._owner_of)

    def _refresh(self, node: Node) -> None:
        """Take over what a new revision says of an inode whose content it kept; else the inode stays as it was."""
        revision = self._revision
        try:
            catalog = revision.tree.try_folder(node.path.rpartition(b"/")[0])
            entry = None if catalog is None else catalog.find(node.path)
            if catalog is None or entry is None:
                return
            chunks = catalog.chunks(node.path) if entry.is_chunked else ()
        except CvmError:
            return
        self._inodes.renew(node, entry, chunks, revision)

    def _directory_entry(self, revision: Revision, path: bytes) -> Entry | None:
        """The entry of a directory whose catalog is at hand."""
        catalog = revision.tree.try_folder(path.rpartition(b"/")[0])
        return None if catalog is None else catalog.find(path)

    def _count_files(self) -> int:
        """Entries of the whole repository, counted by its publisher."""
        revision = self._revision
        known = self._files
        if known is not None and known[0] is revision:
            return known[1]
        root = revision.tree.root
        try:
            total = root.statistics().total if root is not None else None
        except FormatError:
            total = None
        files = total.regular + total.symlink + total.special + total.dir if total else 0
        self._files = (revision, files)
        return files


def _names_at(paths: Sequence[bytes], inodes: Mapping[bytes, int]) -> list[tuple[int, bytes]]:
    """The directory's inode and the name, of each path whose directory is among `inodes` or the root."""
    names = []
    for path in paths:
        above, _, name = path.rpartition(b"/")
        directory = inodes.get(above) if above else ROOT_INODE
        if directory is not None:
            names.append((directory, name))
    return names
