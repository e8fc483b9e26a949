"""A wheel, laid out as pip installs it below a prefix.

Shape: modules go to `lib/pythonX.Y/site-packages`, scripts to `bin`, headers to `include/pythonX.Y`, data to the
prefix; `RECORD` is kept, with the places where things are. Every file is compared with its digest in `RECORD`.
Source: packaging.python.org, "Binary distribution format" and "Recording installed projects".
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import os
import posixpath
import re
import stat
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cernvm.core.errors import InvalidInputError
from cernvm.fs.publish.ingest.member import Data, Member, made_file, wrong_member
from cernvm.fs.publish.ingest.zips import Zip, raw_name, time_s

_MOST_BYTES = 64 << 20  # of a file of metadata
_TAG = re.compile(r"^Tag: cp(\d)(\d+)-", re.MULTILINE)
_PYTHON = re.compile(r"\d\.\d{1,2}")
_OBJECT = re.compile(r"\s*([\w.]+)\s*:\s*([\w.]+)\s*(\[.*\])?\s*")
_SCRIPT = """\
#!{interpreter}
import sys

from {module} import {first}

if __name__ == "__main__":
    sys.exit({function}())
"""
_UNRECORDED = ("RECORD", "RECORD.jws", "RECORD.p7s")


@dataclass(frozen=True, slots=True)
class _Recorded:
    algorithm: str
    digest: str
    size: str


class Wheel:
    """One wheel's files, and where they go. Shape: `python` is `X.Y`, by default what the wheel was built for."""

    def __init__(self, archive: Zip, *, python: str = "", interpreter: str = "") -> None:
        self._archive = archive
        self._infos = {
            raw_name(info).decode("utf-8", "surrogateescape"): info for info in archive.infos
        }
        self._metadata = self._find_metadata()
        wheel = self._text("WHEEL")
        if not re.search(r"^Wheel-Version: 1\.", wheel, re.MULTILINE):
            raise InvalidInputError("the wheel is of a version that is not known")
        built = _TAG.search(wheel)
        usual = f"{sys.version_info[0]}.{sys.version_info[1]}"
        self._python = python or (f"{built[1]}.{built[2]}" if built else usual)
        if not _PYTHON.fullmatch(self._python):
            raise InvalidInputError(f"{self._python!r} is no version of Python such as 3.11")
        self._interpreter = interpreter or f"/usr/bin/env python{self._python}"
        self._site = f"lib/python{self._python}/site-packages"
        self._name = self._metadata.partition("-")[0]
        self._records = self._read_records()
        self._rows: list[tuple[str, str, str]] = []

    def members(self) -> Iterator[Member]:
        """What the wheel installs."""
        for name, info in self._infos.items():
            if name.endswith("/") or name in self._unrecorded():
                continue
            yield self._member(name, info)
        last = max(time_s(info) for info in self._infos.values()) * 10**9
        for script, target in self._entry_points():
            yield self._made(f"bin/{script}", self._script(script, target), 0o755, last)
        yield self._made(f"{self._site}/{self._metadata}/INSTALLER", b"cernvm\n", 0o644, last)
        record = f"{self._site}/{self._metadata}/RECORD"
        text = io.StringIO()
        rows = [*self._rows, (self._relative(record), "", "")]
        csv.writer(text, lineterminator="\n").writerows(sorted(rows))
        data = text.getvalue().encode("utf-8", "surrogateescape")
        yield made_file(record, data, mtime_ns=last)

    # --- where things go

    def _target(self, name: str) -> str:
        """The path below the prefix."""
        first, _, rest = name.partition("/")
        if not (rest and first == self._metadata.removesuffix(".dist-info") + ".data"):
            return f"{self._site}/{name}"
        scheme, _, path = rest.partition("/")
        folders = {
            "purelib": self._site,
            "platlib": self._site,
            "scripts": "bin",
            "headers": f"include/python{self._python}/{self._name}",
            "data": "",
        }
        if scheme not in folders or not path:
            raise wrong_member(os.fsencode(name), "is for a place that is not known")
        return posixpath.join(folders[scheme], path)

    def _relative(self, target: str) -> str:
        return posixpath.relpath(target, self._site)

    def _member(self, name: str, info: zipfile.ZipInfo) -> Member:
        target = self._target(name)
        member = self._archive.member(info)
        assert member is not None
        if not stat.S_ISREG(member.mode):
            raise wrong_member(member.path, "is no plain file, and wheels hold no others")
        if name not in self._records:
            raise wrong_member(member.path, "is not in the wheel's RECORD")
        recorded = self._records[name]
        read = _checked(member, recorded)
        is_script = ".data/scripts/" in name
        mode = 0o755 if is_script or member.mode & 0o111 else 0o644
        if is_script:
            data = Data(member.data.size, read).content()
            if data.startswith(b"#!python"):
                data = b"#!" + self._interpreter.encode() + b"\n" + data.partition(b"\n")[2]
            return self._made(target, data, mode, member.mtime_ns)
        self._rows.append(
            (self._relative(target), f"{recorded.algorithm}={recorded.digest}", recorded.size)
        )
        member.data = Data(member.data.size, read)
        member.path = b"/" + os.fsencode(target)
        member.mode = stat.S_IFREG | mode
        return member

    def _made(self, target: str, data: bytes, mode: int, mtime_ns: int) -> Member:
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        self._rows.append((self._relative(target), f"sha256={digest}", str(len(data))))
        return made_file(target, data, mode=mode, mtime_ns=mtime_ns)

    # --- metadata

    def _find_metadata(self) -> str:
        found = {
            name.partition("/")[0] for name in self._infos if name.endswith(".dist-info/WHEEL")
        }
        if len(found) != 1 or f"{min(found)}/WHEEL" not in self._infos:
            raise InvalidInputError("it is no wheel: it has no single .dist-info/WHEEL")
        return found.pop()

    def _text(self, name: str) -> str:
        info = self._infos.get(f"{self._metadata}/{name}")
        if info is None:
            return ""
        try:
            return self._archive.content(info, _MOST_BYTES).decode()
        except UnicodeDecodeError as exc:
            raise wrong_member(raw_name(info), f"is no text: {exc}") from exc

    def _read_records(self) -> dict[str, _Recorded]:
        records = {}
        for row in csv.reader(io.StringIO(self._text("RECORD"))):
            if len(row) == 3:
                algorithm, _, digest = row[1].partition("=")
                records[row[0]] = _Recorded(algorithm, digest, row[2])
        return records

    def _unrecorded(self) -> tuple[str, ...]:
        return tuple(f"{self._metadata}/{name}" for name in _UNRECORDED)

    def _entry_points(self) -> list[tuple[str, str]]:
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[method-assign,assignment]  # as the library says
        try:
            parser.read_string(self._text("entry_points.txt"))
        except configparser.Error as exc:
            raise InvalidInputError(f"the wheel's entry_points.txt is damaged: {exc}") from exc
        sections = ("console_scripts", "gui_scripts")
        return [pair for one in sections if parser.has_section(one) for pair in parser.items(one)]

    def _script(self, name: str, target: str) -> bytes:
        found = _OBJECT.fullmatch(target)
        if found is None or "/" in name or name in ("", ".", ".."):
            raise InvalidInputError(f"the wheel's entry point {name!r} = {target!r} is none")
        module, function = found[1], found[2]
        first = function.partition(".")[0]
        text = _SCRIPT.format(
            interpreter=self._interpreter, module=module, first=first, function=function
        )
        return text.encode()


def _checked(member: Member, recorded: _Recorded) -> Callable[[int], bytes]:
    """Reads a member, and refuses it at its end if it has another digest."""
    if recorded.algorithm not in ("sha256", "sha384", "sha512"):
        raise wrong_member(member.path, f"has a digest of the kind {recorded.algorithm!r}")
    hasher = hashlib.new(recorded.algorithm)
    inner, left = member.data, member.data.size

    def read(size: int) -> bytes:
        nonlocal left
        data = inner.read(size)
        hasher.update(data)
        left -= len(data)
        if not left:
            found = base64.urlsafe_b64encode(hasher.digest()).rstrip(b"=").decode()
            if found != recorded.digest.rstrip("="):
                raise wrong_member(member.path, "differs from the wheel's RECORD")
        return data

    return read
