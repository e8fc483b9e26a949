"""What the original's `server.conf` says becomes a record of ours."""

from pathlib import PurePosixPath

import pytest

from cernvm.core.errors import ConfigError, NotFoundError
from cernvm.fs.format.compress import Compression
from cernvm.fs.parameters.documents import MemoryDocuments
from cernvm.fs.parameters.server import read_server_parameters, repository_of

NAME = "sft.cernvm.test"
ROOT = PurePosixPath("/etc/cvmfs/repositories.d")
TEXT = """\
CVMFS_REPOSITORY_NAME=sft.cernvm.test
CVMFS_UPSTREAM_STORAGE=local,/srv/cvmfs/sft.cernvm.test/data/txn,/srv/cvmfs/sft.cernvm.test
CVMFS_COMPRESSION_ALGORITHM=none
CVMFS_AUTOCATALOGS=true
CVMFS_AUTOCATALOGS_MAX_WEIGHT=5000
CVMFS_GARBAGE_COLLECTION=true
CVMFS_AUTO_TAG=false
CVMFS_INCLUDE_XATTRS=true
"""


def read(text):
    documents = MemoryDocuments({str(ROOT / NAME / "server.conf"): text.encode()})
    return read_server_parameters(NAME, root=ROOT, documents=documents)


def test_storage_compression_and_choices_are_taken_over(home):
    told = read(TEXT)

    assert told.storage == "/srv/cvmfs/sft.cernvm.test"
    assert told.compression is Compression.NONE
    settings = repository_of(home, NAME, told).settings
    assert (settings.gc, settings.catalogs, settings.most_entries) == (True, True, 5000)
    assert (settings.automatic_tag, settings.xattrs, settings.mtime_ns) == (False, True, False)


def test_what_is_elsewhere_is_left_to_be_named():
    assert read("CVMFS_UPSTREAM_STORAGE=s3,/tmp,bucket@/etc/s3.conf\n").storage == ""


@pytest.mark.parametrize(
    "line",
    [
        "CVMFS_UPSTREAM_STORAGE=local,/tmp",
        "CVMFS_UPSTREAM_STORAGE=local,/tmp,relative",
        "CVMFS_COMPRESSION_ALGORITHM=zstd",
        "CVMFS_MIN_CHUNK_SIZE=many",
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_line(line):
    with pytest.raises(ConfigError) as caught:
        read(f"{TEXT}{line}\n")
    assert "server.conf:9" in str(caught.value)


def test_no_configuration_is_told():
    with pytest.raises(NotFoundError):
        read_server_parameters(NAME, root=ROOT, documents=MemoryDocuments({}))
