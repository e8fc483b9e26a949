"""An open file of a repository as one of Python's binary streams."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from cernvm.core.errors import CvmError
from cernvm.fs.api.files import OpenFile
from cernvm.fs.api.oserrors import os_error

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_BYTES = 1 << 20


class FileStream(io.RawIOBase):
    """Reads and seeks; closing it closes the file. Errors: `OSError`, with the cause behind it."""

    def __init__(self, file: OpenFile, name: str) -> None:
        super().__init__()
        self.name = name
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size_bytes}
        if whence not in base or base[whence] + offset < 0:
            raise ValueError(f"no place to seek to: {offset}, {whence}")
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        try:
            data = self._file.read(self._position, len(view))
        except CvmError as error:
            raise os_error(error, self.name) from error
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")


def buffered(file: OpenFile, name: str) -> io.BufferedReader:
    """The stream with a buffer, as `open(..., "rb")` gives one."""
    return io.BufferedReader(FileStream(file, name), BUFFER_BYTES)
