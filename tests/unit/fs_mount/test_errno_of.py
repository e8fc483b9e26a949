import errno

import pytest

from cernvm.core import errors
from cernvm.fs.mount.errno_of import ERRNOS, errno_of


@pytest.mark.parametrize("leaf", list(errors.leaves()))
def test_every_leaf_of_the_tree_has_a_row(leaf):
    assert leaf in ERRNOS


def test_what_cannot_be_verified_or_reached_is_an_input_output_error():
    assert errno_of(errors.ExpiredError("old")) == errno.EIO
    assert errno_of(errors.HostError("http://h", "refused")) == errno.EIO
    assert errno_of(errors.FormatError("bad")) == errno.EIO
    assert errno_of(errors.NotFoundError("path", "/x")) == errno.ENOENT
