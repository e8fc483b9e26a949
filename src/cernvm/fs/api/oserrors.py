"""The system's errors as the `OSError`s that programs expect of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cernvm.core.errors import CvmError
from cernvm.fs.api.files import WrongKindError
from cernvm.fs.mount.errno_of import errno_of


def os_error(error: CvmError, path: str) -> OSError:
    """`FileNotFoundError` and the like, by errno; its text says the reason and what to do."""
    number = error.errno if isinstance(error, WrongKindError) else errno_of(error)
    text = f"{error.what} ({error.advice})" if error.advice else error.what
    return OSError(number, text, path)


@contextmanager
def as_os_errors(path: str) -> Iterator[None]:
    """Turn every error inside into an `OSError` about `path`, with the error as its cause."""
    try:
        yield
    except CvmError as error:
        raise os_error(error, path) from error
