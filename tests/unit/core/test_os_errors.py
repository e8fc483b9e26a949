import errno

import pytest

from cernvm.core.errors import CvmError, DeniedError, InvalidInputError, NotFoundError, SpaceError
from cernvm.core.os_errors import from_os


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, SpaceError),
        (errno.EDQUOT, SpaceError),
        (errno.EACCES, DeniedError),
        (errno.EROFS, DeniedError),
        (errno.ENOENT, NotFoundError),
        (errno.EISDIR, InvalidInputError),
        (errno.EIO, CvmError),
    ],
)
def test_what_the_system_refused_names_the_path_and_the_next_step(number, kind):
    error = from_os(OSError(number, "refused", "/some/path"))

    assert type(error) is kind
    assert "/some/path" in error.what
    assert error.advice
