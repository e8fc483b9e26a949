"""The pages of a report as one compressed archive that begins with a table of contents."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

MAX_PAGE_BYTES = 512 * 1024
MAX_BYTES = 16 * 1024 * 1024  # of all pages, before compression
CONTENTS = "CONTENTS.txt"


@dataclass(frozen=True, slots=True)
class Page:
    """One file of a report. Shape: `note` says what is wrong with it, or is empty."""

    name: str
    text: str = ""
    took_s: float = 0.0
    note: str = ""


def pack(pages: Sequence[Page], *, folder: str) -> bytes:
    """The archive, gzip of tar, all files in `folder`; pages beyond the limit are left out, and the contents say so."""
    kept: list[Page] = []
    left_bytes = MAX_BYTES
    for page in pages:
        size_bytes = len(page.text.encode())
        if size_bytes > left_bytes:
            kept.append(Page(page.name, "", page.took_s, "left out: the report is full"))
            continue
        left_bytes -= size_bytes
        kept.append(page)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as archive:
        _add(archive, f"{folder}/{CONTENTS}", contents(kept))
        for page in kept:
            if page.text:
                _add(archive, f"{folder}/{page.name}", page.text)
    return packed.getvalue()


def contents(pages: Sequence[Page]) -> str:
    """The table of contents: bytes, seconds, name, and what is wrong."""
    lines = [
        f"{len(page.text.encode()):>8}  {page.took_s:5.2f} s  {page.name}"
        + (f"  ({page.note})" if page.note else "")
        for page in pages
    ]
    return "   bytes    time    page\n" + "".join(f"{line}\n" for line in lines)


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(data))
