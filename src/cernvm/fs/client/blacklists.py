"""The blacklists of this machine, read anew whenever a revision is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cernvm.core.errors import DeniedError, LetterFormatError
from cernvm.fs.format.blacklist import MAX_BLACKLIST_BYTES, Blacklist, parse_blacklist


def blacklist_of(files: Sequence[Path]) -> Callable[[], Blacklist]:
    """What all of `files` forbid together; one that does not exist forbids nothing.

    Errors of what is returned: `LetterFormatError`, `DeniedError`: nothing is shown by a list that cannot be read.
    """

    def read() -> Blacklist:
        texts = [_text(path) for path in files]
        return parse_blacklist("\n".join(texts), where=", ".join(map(str, files)))

    return read


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BLACKLIST_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise DeniedError(f"the blacklist {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BLACKLIST_BYTES:
        raise LetterFormatError(f"it is larger than {MAX_BLACKLIST_BYTES} bytes", where=str(path))
    return data.decode("utf-8", "replace")
