"""Members of an archive, placed into a draft one after the other, as unpacking them would place files.

Content is stored on the way, by whoever is free; the draft is changed in the archive's order, when a member's turn has
come. Links are never followed: a member below a symbolic link is refused.
"""

from __future__ import annotations

import stat
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from cernvm.core.errors import InvalidInputError
from cernvm.fs.format import xattrs
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import (
    DIRECTORY_SIZE_BYTES,
    NO_XATTRS,
    Entry,
    EntryFlag,
    EntryKind,
    kind_of_mode,
)
from cernvm.fs.publish.content import Content, ContentWriter
from cernvm.fs.publish.draft import Draft
from cernvm.fs.publish.entries import Owner
from cernvm.fs.publish.ingest.layers import Layer
from cernvm.fs.publish.ingest.member import Member, wrong_member
from cernvm.fs.publish.ingest.seen import Seen
from cernvm.fs.publish.source import LEFT_OUT
from cernvm.fs.survey.database import Item

_SMALL_BYTES = 1 << 20
_NO_CONTENT = Content(0, None)


class Placer:
    """Places one archive's members at and below `at`.

    Shape: where it `deletes`, what stood at a path before the archive came is in nobody's way.
    Errors: `InvalidInputError` naming the member, from any call, about this member or an earlier one.
    """

    def __init__(
        self,
        draft: Draft,
        writer: ContentWriter,
        at: bytes,
        seen: Seen,
        *,
        owner: Owner | None = None,
        deletes: bool = False,
    ) -> None:
        self._draft = draft
        self._writer = writer
        self._at = at
        self._seen = seen
        self._owner = owner
        self._deletes = deletes
        self._layer = Layer(iter(()))
        self._settings = draft.repository.settings
        self._folder: bytes | None = None  # the last one that was seen to be there
        self._next_inode = 1
        self._inodes: dict[bytes, int] = {}  # of paths that are one of several names
        self._held: dict[bytes, Item] = {}  # files of several names, which are put in the end

    def begin(self, layer: Layer) -> None:
        """Have members of another layer come."""
        self._layer = layer
        self._folder = None
        self._seen.next_layer()

    def place(self, member: Member) -> None:
        """Have a member stand at its path, when its turn has come; its content is read here."""
        path = self._at + member.path
        if member.is_whiteout:
            self._writer.then(lambda: self._remove_lower(path))
        elif member.is_opaque:
            self._writer.then(lambda: self._clear_lower(path))
        elif member.link is not None:
            self._writer.then(lambda: self._put_link(member))
        elif not stat.S_ISREG(member.mode):
            self._writer.then(lambda: self._put(member, _NO_CONTENT))
        else:
            self._store(member)

    def finish(self) -> None:
        """Put what is one file under several names, once all members of a layer are placed and stored."""
        together: dict[tuple[int, bytes], list[Item]] = defaultdict(list)
        for path, item in self._held.items():
            inode = self._inodes.get(path)
            if inode is None:
                self._draft.put(item)
            else:
                together[inode, path.rpartition(b"/")[0]].append(item)
        for (_, folder), items in together.items():
            self._draft.put_linked([*items, *self._others(folder, items)])
        self._held.clear()
        self._inodes.clear()

    def _others(self, folder: bytes, items: list[Item]) -> list[Item]:
        """Names that files of this layer share with files of an earlier one."""
        groups = {item.entry.hardlink_group for item in items} - {0}
        if not groups or not self._layer.is_over:
            return []
        paths = {item.path for item in items}
        return [
            item
            for item in self._draft.listing(folder)
            if item.entry.hardlink_group in groups and item.path not in paths
        ]

    def _store(self, member: Member) -> None:
        data, writer = member.data, self._writer

        def done(_status: object, content: Content) -> None:
            self._put(member, content)

        if data.offset is not None and self._layer.found is not None:
            writer.add_extent(self._layer.found, data.offset, data.size, done)
        elif data.size <= _SMALL_BYTES:
            writer.add_bytes(data.content(), done)
        else:
            writer.add_stream(data.read, done)

    # --- in turn

    def _remove_lower(self, path: bytes) -> None:
        """Take away what stands at a path, but for what this layer placed."""
        waiting = [path]
        while waiting:
            one = waiting.pop()
            if self._seen.is_in_layer(one):
                waiting += self._below(one)
            elif one != self._at and self._draft.find(one) is not None:
                self._draft.remove(one)
                self._folder = None
                for held in [held for held in self._held if (held + b"/").startswith(one + b"/")]:
                    del self._held[
                        held
                    ]  # it was there as the first name of something of this layer

    def _clear_lower(self, path: bytes) -> None:
        for below in self._below(path):
            self._remove_lower(below)

    def _below(self, path: bytes) -> list[bytes]:
        item = self._draft.find(path)
        if item is None or not item.entry.is_directory:
            return []
        return [below.path for below in self._draft.listing(path)]

    def _put(self, member: Member, content: Content) -> None:
        path = self._at + member.path
        entry = self._entry(member, content)
        if path:
            self._ensure_folder(path, entry, member)
        self._put_item(Item(path, entry, content.chunks), member)

    def _put_item(self, item: Item, member: Member) -> None:
        old = self._find(item.path)
        self._inodes.pop(item.path, None)
        self._held.pop(item.path, None)
        if old is not None and not item.entry.is_directory:
            self._check_free(old, member)
        self._seen.add(item.path)
        if old is not None and old.entry.hardlink_group and _is_same(old, item):
            self._held[item.path] = old  # it may have its other names again
            return
        self._draft.put(item)

    def _put_link(self, member: Member) -> None:
        path, target = self._at + member.path, self._at + (member.link or b"")
        item = self._find(target)
        if item is None or item.entry.is_directory or not member.link:
            what = "which is not there" if item is None else "a directory"
            shown = (member.link or b"/")[1:].decode("utf-8", "replace")
            raise wrong_member(member.path, f"is another name of {shown!r}, {what}")
        if path == target:
            return
        entry = replace(item.entry, name=path.rpartition(b"/")[2])
        if entry.kind is not EntryKind.FILE:
            self._ensure_folder(path, entry, member)
            self._put_item(Item(path, entry), member)
            return
        self._ensure_folder(path, entry, member)
        if (old := self._find(path)) is not None:
            self._check_free(old, member)
        self._seen.add(path)
        inode = self._inodes.setdefault(target, self._next_inode)
        self._next_inode += 1
        self._inodes[path] = inode
        self._held[target] = item
        self._held[path] = Item(path, entry, item.chunks)

    def _find(self, path: bytes) -> Item | None:
        return self._held.get(path) or self._draft.find(path)

    def _ensure_folder(self, path: bytes, like: Entry, member: Member) -> None:
        folder = path.rpartition(b"/")[0]
        if folder == self._folder:
            return
        above = folder
        while above and self._held:  # what is held is not in the draft yet
            if above in self._held:
                raise wrong_member(member.path, "lies below a file")
            above = above.rpartition(b"/")[0]
        try:
            self._draft.ensure_folders(folder, like)
        except InvalidInputError as exc:
            raise wrong_member(member.path, f"cannot be placed: {exc}") from exc
        self._folder = folder

    def _check_free(self, old: Item, member: Member) -> None:
        """Refuse to put a file where a directory stands, but for one that is to go anyway."""
        if not old.entry.is_directory:
            return
        may_go = self._deletes or self._layer.is_over
        if not may_go or self._seen.is_in_layer(old.path):
            raise wrong_member(
                member.path,
                "would replace a directory",
                advice="remove that one first, or ingest elsewhere",
            )
        self._draft.remove(old.path)
        self._folder = None

    def _entry(self, member: Member, content: Content) -> Entry:
        kind = kind_of_mode(member.mode)
        assert kind is not None
        seconds, part_ns = divmod(member.mtime_ns, 10**9)
        flags, size = int(kind.value), content.size
        if kind is EntryKind.FILE:
            external = EntryFlag.EXTERNAL if self._writer.recipe.is_external else 0
            flags |= external | (EntryFlag.CHUNKED if content.chunks else 0)
        elif kind is EntryKind.DIRECTORY:
            size = DIRECTORY_SIZE_BYTES
        else:
            size = len(member.target) if kind is EntryKind.SYMLINK else member.device
        return Entry(
            name=(self._at + member.path).rpartition(b"/")[2],
            mode=member.mode | 0o777 if kind is EntryKind.SYMLINK else member.mode,
            size=size,
            mtime_s=seconds,
            mtime_ns=part_ns if self._settings.mtime_ns else None,
            uid=member.uid if self._owner is None else self._owner.uid,
            gid=member.gid if self._owner is None else self._owner.gid,
            flags=int(flags),
            digest=content.digest,
            compression=(
                self._writer.recipe.compression if kind is EntryKind.FILE else Compression.ZLIB
            ),
            symlink=member.target,
            xattrs=self._xattrs(member),
        )

    def _xattrs(self, member: Member) -> Mapping[bytes, bytes]:
        if not member.xattrs or not self._settings.xattrs:
            return NO_XATTRS
        kept = {
            key: value
            for key, value in member.xattrs.items()
            if not key.startswith(LEFT_OUT) and xattrs.fits(key, value) and b"\0" not in key
        }
        return dict(list(kept.items())[: xattrs.MAX_BYTES]) or NO_XATTRS


def _is_same(old: Item, item: Item) -> bool:
    """Whether they differ in their links only."""
    entry = replace(old.entry, hardlink_group=0, link_count=1)
    return entry == item.entry and old.chunks == item.chunks
