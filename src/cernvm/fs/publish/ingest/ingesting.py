"""Publishing what an archive holds at a path of a repository."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from cernvm.core.clock import Clock
from cernvm.fs.format.catalog import AUTOCATALOG_MARKER, CATALOG_MARKER
from cernvm.fs.publish.content import ContentWriter, Progress
from cernvm.fs.publish.draft import Draft
from cernvm.fs.publish.ingest.layers import Ingestion, open_layers
from cernvm.fs.publish.ingest.member import Member
from cernvm.fs.publish.ingest.placing import Placer
from cernvm.fs.publish.ingest.seen import Seen
from cernvm.fs.publish.publishing import Options, Published, parse_path, publish_changes
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.sink import RevisionSink
from cernvm.fs.store.port import ObjectStore


def ingest(
    repository: Repository,
    store: ObjectStore,
    archive: Path | BinaryIO,
    how: Ingestion | None = None,
    *,
    options: Options | None = None,
    sink: RevisionSink | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Published:
    """Publish a revision in which what `archive` holds stands at `options.at`.

    Errors: `InvalidInputError` naming a member that cannot be published, or saying that the archive is damaged, cut off
    or changed while it was read; otherwise as `publish_changes`. The last revision then stands.
    """
    chosen, wanted = options or Options(), how or Ingestion()
    at = parse_path(chosen.at)
    if not wanted.prefix:
        wanted = replace(wanted, prefix=f"/cvmfs/{repository.name}{os.fsdecode(at)}")

    def change(draft: Draft, writer: ContentWriter) -> None:
        with Seen() as seen, open_layers(archive, wanted) as layers:
            placer = Placer(draft, writer, at, seen, owner=chosen.owner, deletes=wanted.deletes)
            for layer in layers:
                placer.begin(layer)
                for member in layer.members:
                    placer.place(member)
                if wanted.is_nested and not layer.is_over:
                    placer.place(Member(b"/" + CATALOG_MARKER, stat.S_IFREG | 0o644))
                writer.finish()  # while the archive is open, and known to be what it was
                placer.finish()
            if wanted.deletes:
                _remove_others(draft, at, seen)

    return publish_changes(
        repository, store, change, options=chosen, sink=sink, progress=progress, clock=clock
    )


def _remove_others(draft: Draft, folder: bytes, seen: Seen) -> None:
    """Remove what the archive did not place; marks of catalogs stay in directories that do."""
    waiting = [folder] if draft.find(folder) is not None else []
    while waiting:
        for item in draft.listing(waiting.pop()):
            if item.path in seen or seen.has_below(item.path):
                if item.entry.is_directory:
                    waiting.append(item.path)
            elif item.entry.name not in (CATALOG_MARKER, AUTOCATALOG_MARKER):
                draft.remove(item.path)
