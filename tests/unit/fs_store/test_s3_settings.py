"""The file that says how a bucket is reached."""

import pytest

from cernvm.core.errors import ConfigError, DeniedError, InvalidInputError, NotFoundError
from cernvm.fs.store.opening import location_of, open_store
from cernvm.fs.store.s3.settings import S3Settings, read_settings

ORIGINAL = """\
# as cvmfs_server mkfs -s takes it
CVMFS_S3_HOST=s3.example.org
CVMFS_S3_PORT=8443
CVMFS_S3_USE_HTTPS=yes
CVMFS_S3_BUCKET=tank
CVMFS_S3_DNS_BUCKETS=false
CVMFS_S3_ACCESS_KEY='AK'
CVMFS_S3_SECRET_KEY="SK=="
CVMFS_S3_REGION=eu-central-1
CVMFS_S3_MAX_NUMBER_OF_PARALLEL_CONNECTIONS=64
CVMFS_S3_SOMETHING_ELSE=1
"""


@pytest.fixture
def written(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "s3.conf"
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def test_the_file_of_the_original_is_read(written):
    assert read_settings(written(ORIGINAL), bucket="tank") == S3Settings(
        endpoint="https://s3.example.org:8443", region="eu-central-1", access_key="AK", secret_key="SK==",
        addressing="path", acl="public-read", lanes=64,
    )  # fmt: skip


def test_without_a_region_the_original_signs_in_the_old_way(written):
    old = ORIGINAL.replace("CVMFS_S3_REGION=eu-central-1\n", "")

    assert read_settings(written(old), bucket="tank").signature == "s3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("endpunkt = 'x'", "did you mean endpoint"),
        ("addressing = 'sideways'", "is none of auto, path, virtual"),
        ("access_key = 'x'", "belong together"),
        ("lanes = 0", "out of range"),
        ("= =", "no TOML"),
        ("CVMFS_S3_BUCKET=other\nCVMFS_S3_HOST=x\n", "another bucket than tank"),
        ("CVMFS_S3_FLAVOR=azure\nCVMFS_S3_HOST=x\n", "CVMFS_S3_FLAVOR"),
        ("CVMFS_S3_BUCKET=tank\n", "CVMFS_S3_HOST"),
        ("CVMFS_S3_HOST=x\nCVMFS_S3_TIMEOUT=soon\n", "no number"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(written, text, said):
    path = written(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_settings(path, bucket="tank")
    assert str(path) in str(caught.value)


def test_a_secret_that_others_can_read_is_refused(written):
    with pytest.raises(DeniedError, match="others can read it"):
        read_settings(written(ORIGINAL, 0o644), bucket="tank")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="nowhere"):
        read_settings(tmp_path / "nowhere", bucket="tank")


def test_a_bucket_alone_holds_a_repository_below_its_name(tmp_path):
    file = tmp_path / "a b"

    assert location_of("s3://tank", config=None, name="t.x.y") == "s3://tank/t.x.y"
    assert location_of("s3://tank/p", config=file, name="t.x.y").startswith("s3://tank/p?config=/")
    assert "%20" in location_of("s3://tank/p", config=file, name="t.x.y")


@pytest.mark.parametrize(
    "location",
    [
        "s3://",
        "s3://x",
        "s3://tank/../up",
        "s3://tank/a?token=secret",
        "s3://tank/a?config=/a&config=/b",
    ],
)
def test_a_location_that_makes_no_sense_is_refused(location):
    with pytest.raises(InvalidInputError):
        open_store(location)
