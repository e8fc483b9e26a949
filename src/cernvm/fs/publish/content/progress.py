"""How far a publication is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cernvm.fs.publish.content.recipe import Content


@dataclass(slots=True)
class Progress:
    """What has been done so far; `on_change` is told after each step, always by the publishing thread."""

    files: int = 0
    read_bytes: int = 0
    stored_objects: int = 0
    stored_bytes: int = 0
    packs: int = 0
    on_change: Callable[[Progress], None] = field(default=lambda _progress: None, repr=False)

    def add_file(self, content: Content) -> None:
        """Count a file that is done, whether it was read or recognised."""
        self.files += 1
        self.read_bytes += content.size
        self.on_change(self)

    def add_pack(self, stored_bytes: int) -> None:
        """Count a pack that was made; of 0 bytes if the store had it."""
        self.packs += 1
        self.add_object(stored_bytes)
        self.on_change(self)

    def add_object(self, stored_bytes: int) -> None:
        """Count an object that was put; 0 for one that was there."""
        self.stored_objects += stored_bytes > 0
        self.stored_bytes += stored_bytes
