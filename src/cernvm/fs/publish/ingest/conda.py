"""A conda package, laid out as conda links it into an environment whose folder is where clients will see it.

Shape: all but `info/` goes to the prefix; of a `noarch: python` package `site-packages` goes to that of the
environment's Python, `python-scripts` to `bin`; `conda-meta/NAME-VERSION-BUILD.json` is what `conda list` reads. Where
files hold the folder in which the package was built, that is replaced by the prefix: in text by the text, in binaries
within each string that ends with NUL, filled up with NULs, so that nothing moves.
Source: docs.conda.io, "Package specification", "Package metadata"; the conda enhancement proposals 1 and 34.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cernvm.core.errors import InvalidInputError
from cernvm.fs.publish.ingest.inflating import Growth, inflated
from cernvm.fs.publish.ingest.member import Data, Member, made_file, wrong_member
from cernvm.fs.publish.ingest.source import StreamArchive, archive_in, open_source
from cernvm.fs.publish.ingest.tar import TarReader
from cernvm.fs.publish.ingest.zips import open_zip, raw_name

_MOST_BYTES = 64 << 20  # of a document
_MOST_PREFIXED_BYTES = 1 << 30  # of a file whose prefix is replaced, in memory
_SHEBANG_BYTES = 127  # what the kernel reads of a script's first line
_PLACEHOLDER = "/opt/anaconda1anaconda2anaconda3"
_PREFIX_LINE = re.compile(r"(?:\"([^\"]*)\"|(\S+))\s+(text|binary)\s+(?:\"([^\"]*)\"|(\S.*))")
_DOCUMENTS = ("index.json", "paths.json", "has_prefix", "link.json", "files")


@dataclass(frozen=True, slots=True)
class Prefixed:
    """Where a package was built, as one of its files says it."""

    placeholder: bytes
    is_binary: bool


class Package:
    """What `info/` says of a package. Shape: `prefix` is its environment's folder as clients see it, absolute."""

    def __init__(self, documents: Mapping[str, bytes], prefix: str, *, python: str = "") -> None:
        if "index.json" not in documents:
            raise InvalidInputError("it is no conda package: it has no info/index.json")
        index = _parse(documents["index.json"], "index.json")
        self._index = {key: index.get(key) for key in ("name", "version", "build")}
        if not all(
            isinstance(one, str) and re.fullmatch(r"[\w.!+-]+", one) for one in self._index.values()
        ):
            raise InvalidInputError("the package's info/index.json has no name, version and build")
        self._whole_index = index
        self._prefix = prefix.encode()
        self._prefixed = _prefixed(documents)
        self._is_noarch = index.get("noarch") == "python"
        version = python or f"{sys.version_info[0]}.{sys.version_info[1]}"
        if not re.fullmatch(r"\d\.\d{1,2}", version):
            raise InvalidInputError(f"{version!r} is no version of Python such as 3.11")
        self._python = version
        link = _parse(documents["link.json"], "link.json") if "link.json" in documents else {}
        noarch = link.get("noarch")
        points = noarch.get("entry_points") if isinstance(noarch, dict) else None
        self._entry_points = [one for one in points or [] if isinstance(one, str)]
        self._files: list[str] = []

    def members(self, packed: Iterator[Member]) -> Iterator[Member]:
        """What the package installs, of what it holds."""
        for member in packed:
            if member.path == b"/info" or member.path.startswith(b"/info/"):
                continue
            if stat.S_ISDIR(member.mode):
                if member.path:
                    member.path = self._target(member.path)
                    yield member
                continue
            name = os.fsdecode(member.path[1:])
            if name in self._prefixed:
                self._replace(member, self._prefixed[name])
            member.path = self._target(member.path)
            if member.link is not None:
                member.link = self._target(member.link)
            self._files.append(os.fsdecode(member.path[1:]))
            yield member
        for script in self._entry_points:
            yield self._script(script)
        yield self._record()

    def _target(self, path: bytes) -> bytes:
        if not self._is_noarch:
            return path
        site = f"/lib/python{self._python}/site-packages".encode()
        for folder, target in ((b"/site-packages", site), (b"/python-scripts", b"/bin")):
            if path == folder or path.startswith(folder + b"/"):
                return target + path.removeprefix(folder)
        return path

    def _replace(self, member: Member, found: Prefixed) -> None:
        if not stat.S_ISREG(member.mode) or member.link is not None:
            return
        if member.data.size > _MOST_PREFIXED_BYTES:
            raise wrong_member(member.path, "is too large to have its prefix replaced")
        data = member.data.content()
        if found.is_binary:
            data = replace_in_binary(data, found.placeholder, self._prefix, member.path)
        else:
            data = shorten_shebang(data.replace(found.placeholder, self._prefix))
        member.data = Data(len(data), io.BytesIO(data).read)

    def _script(self, point: str) -> Member:
        found = re.fullmatch(r"\s*([\w.-]+)\s*=\s*([\w.]+)\s*:\s*(([\w]+)[\w.]*)\s*", point)
        if found is None:
            raise InvalidInputError(f"the package's entry point {point!r} is none")
        name, module, function, first = found.groups()
        text = (
            f"#!{self._prefix.decode()}/bin/python{self._python}\nimport sys\n\n"
            f'from {module} import {first}\n\nif __name__ == "__main__":\n    sys.exit({function}())\n'
        )
        self._files.append(f"bin/{name}")
        return self._made(f"bin/{name}", shorten_shebang(text.encode()), 0o755)

    def _record(self) -> Member:
        name = "-".join(str(one) for one in self._index.values())
        record = {
            **self._whole_index,
            "files": sorted(self._files),
            "fn": name,
            "link": {"source": ""},
        }
        text = json.dumps(record, indent=1, sort_keys=True) + "\n"
        return self._made(f"conda-meta/{name}.json", text.encode(), 0o644)

    def _made(self, path: str, data: bytes, mode: int) -> Member:
        built_ms = self._whole_index.get("timestamp")
        mtime_ns = built_ms * 10**6 if isinstance(built_ms, int) else 0
        return made_file(path, data, mode=mode, mtime_ns=mtime_ns).checked()


def replace_in_binary(data: bytes, placeholder: bytes, prefix: bytes, name: bytes) -> bytes:
    """A binary whose strings name another prefix; each is filled up, so that all else stays where it is.

    Errors: `InvalidInputError` for a prefix that is longer than the placeholder.
    """
    if len(prefix) > len(placeholder):
        raise wrong_member(
            name,
            f"has room for a folder of {len(placeholder)} bytes, and {prefix.decode()!r} is longer",
            "ingest it at a shorter path",
        )

    def replaced(found: re.Match[bytes]) -> bytes:
        return found[0].replace(placeholder, prefix).ljust(len(found[0]), b"\0")

    return re.sub(re.escape(placeholder) + rb"[^\0]*", replaced, data)


def shorten_shebang(data: bytes) -> bytes:
    """A script whose interpreter the kernel can read: by `env` where its path is too long."""
    line, newline, rest = data.partition(b"\n")
    if not line.startswith(b"#!") or len(line) <= _SHEBANG_BYTES:
        return data
    interpreter, _, options = line[2:].strip().partition(b" ")
    program = interpreter.rpartition(b"/")[2]
    return b"#!/usr/bin/env " + program + (b" " + options if options else b"") + newline + rest


@contextmanager
def open_conda(path: Path, prefix: str, *, python: str = "") -> Iterator[Iterator[Member]]:
    """What a package, `.conda` or `.tar.bz2`, installs at `prefix`."""
    with open_source(path) as (found, descriptor):
        is_zip = os.pread(descriptor, 2, 0) == b"PK"
        if not is_zip:
            first = TarReader(archive_in(found, descriptor))
            package = Package(_documents(first.members()), prefix, python=python)
            yield package.members(TarReader(archive_in(found, descriptor)).members())
    if is_zip:
        with open_zip(path) as archive:
            parts = {}
            for info in archive.infos:
                part = re.fullmatch(rb"(info|pkg)-[^/]*\.tar\.(zst|bz2|gz)", raw_name(info))
                if part:
                    growth = Growth(os.fsdecode(raw_name(info)))
                    stream = inflated(archive.reader(info), growth)[0]
                    parts[part[1]] = TarReader(StreamArchive(stream, growth))
            if set(parts) != {b"info", b"pkg"}:
                raise InvalidInputError(
                    "it is no conda package: it has not just one info and one pkg"
                )
            package = Package(_documents(parts[b"info"].members()), prefix, python=python)
            yield package.members(parts[b"pkg"].members())


def _documents(members: Iterator[Member]) -> dict[str, bytes]:
    found = {}
    for member in members:
        folder, _, name = os.fsdecode(member.path).rpartition("/")
        if folder == "/info" and name in _DOCUMENTS and stat.S_ISREG(member.mode):
            if member.data.size > _MOST_BYTES:
                raise wrong_member(member.path, f"has {member.data.size} bytes")
            found[name] = member.data.content()
    return found


def _prefixed(documents: Mapping[str, bytes]) -> dict[str, Prefixed]:
    """The files that hold the folder in which the package was built."""
    if "paths.json" in documents:
        paths = _parse(documents["paths.json"], "paths.json").get("paths")
        rows = [one for one in paths if isinstance(one, dict)] if isinstance(paths, list) else []
        return {
            str(row["_path"]): Prefixed(
                os.fsencode(str(row["prefix_placeholder"])), row.get("file_mode") == "binary"
            )
            for row in rows
            if row.get("prefix_placeholder") and "_path" in row
        }
    found = {}
    for line in documents.get("has_prefix", b"").decode("utf-8", "surrogateescape").splitlines():
        row = _PREFIX_LINE.fullmatch(line.strip())
        if row is not None:
            placeholder = (row[1] if row[1] is not None else row[2]).encode()
            found[row[4] if row[4] is not None else row[5]] = Prefixed(
                placeholder, row[3] == "binary"
            )
        elif line.strip():
            found[line.strip().strip('"')] = Prefixed(_PLACEHOLDER.encode(), is_binary=False)
    return found


def _parse(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError(f"the package's info/{name} is no JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise InvalidInputError(f"the package's info/{name} is no JSON object")
    return value
