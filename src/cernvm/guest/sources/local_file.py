"""User-data that lies in a file of the instance, put there by the image or the one who starts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cernvm.context.encoding import MAX_TEXT_BYTES
from cernvm.core.clock import Deadline
from cernvm.core.errors import ContextFormatError
from cernvm.guest.sources.port import Found

DEFAULT_PATH = Path("/etc/cernvm/user-data")


@dataclass(frozen=True, slots=True)
class FileSource:
    """The user-data in `path`; it knows nothing about the instance."""

    path: Path = DEFAULT_PATH
    name: str = "file"

    def probe(self, deadline: Deadline) -> Found | None:  # noqa: ARG002  # a local file does not wait
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_TEXT_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ContextFormatError(error.strerror or str(error), where=str(self.path)) from None
        if len(data) > MAX_TEXT_BYTES:
            raise ContextFormatError(f"larger than {MAX_TEXT_BYTES} bytes", where=str(self.path))
        return Found(data)
