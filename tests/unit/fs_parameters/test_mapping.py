"""Parameters become the settings of a mount."""

import os
import re
from pathlib import Path, PurePosixPath

import pytest

from cernvm.core.errors import ConfigError, NotFoundError
from cernvm.fs.mount import MountSettings
from cernvm.fs.parameters import (
    configured_names,
    configured_settings,
    known_parameters,
    mapping,
    read_parameters,
)

NAME = "sft.cernvm.test"


@pytest.fixture
def etc(tmp_path):
    folder = tmp_path / "etc"
    (folder / "domain.d").mkdir(parents=True)
    (folder / "key.pub").write_text("KEY")
    return folder


@pytest.fixture
def settings(etc, home):
    def make(text="", environment=None):
        (etc / "default.local").write_text(
            f"CVMFS_SERVER_URL='http://a/@fqrn@;http://b/@org@'\nCVMFS_PUBLIC_KEY={etc}/key.pub\n{text}"
        )
        return configured_settings(
            NAME, home=home, environment=environment or {}, root=PurePosixPath(etc)
        )

    return make


def test_what_is_not_said_has_this_client_s_defaults(settings, home, etc):
    found = settings()
    assert found.client.net.hosts == "http://a/sft.cernvm.test;http://b/sft"
    assert found.client.net.proxies == "DIRECT"
    assert found.client.cache.folder == home.cache
    assert found.client.reader.public_keys == (etc / "key.pub",)
    assert found.point == Path("/cvmfs") / NAME
    assert found.run == home.run


def test_parameters_reach_every_room(settings, tmp_path):
    (tmp_path / "uids").write_text("0 1000\n* 65534\n")
    found = settings(
        f"""CVMFS_HTTP_PROXY="http://p1:3128|http://p2:3128;DIRECT"
CVMFS_TIMEOUT=7
CVMFS_USE_GEOAPI=yes
CVMFS_QUOTA_LIMIT=20
CVMFS_CACHE_BASE={tmp_path}/var
CVMFS_REPOSITORY_TAG=first
CVMFS_MAX_TTL=3
CVMFS_SECOND_KEYS=/a.pub:/b.pub
CVMFS_UID_MAP={tmp_path}/uids
CVMFS_XATTR_PROTECTED_XATTRS="user.logbuffer, pubkeys"
CVMFS_XATTR_PRIVILEGED_GIDS=7,8
CVMFS_TALK_SOCKET=/run/x
CVMFS_AUTHZ_SEARCH_PATH=/opt/authz
CVMFS_MOUNT_DIR={tmp_path}/mnt
"""
    )
    net, cache, reader, view = (
        getattr(found.client, room) for room in ("net", "cache", "reader", "view")
    )
    assert (net.proxies, net.timeout_s, net.use_geo) == (
        "http://p1:3128|http://p2:3128;DIRECT", 7, True,
    )  # fmt: skip
    assert (cache.folder, cache.quota_bytes) == (tmp_path / "var/cernvm", 20 * 1024 * 1024)
    assert (reader.pin.tag, reader.max_ttl_s) == ("first", 180)
    assert reader.second_keys == (Path("/a.pub"), Path("/b.pub"))
    assert view.owners.uid_map == {"0": 1000, "*": 65534}
    assert view.magic.protected == ("logbuffer", "pubkeys")
    assert view.magic.privileged_gids == (7, 8)
    assert found.talk == Path("/run/x")
    assert found.authorization.folder == Path("/opt/authz")
    assert found.point == tmp_path / "mnt" / NAME


def test_the_settings_cross_to_the_serving_process(settings):
    found = settings("CVMFS_CLAIM_OWNERSHIP=yes\nCVMFS_ALIEN_CACHE=/alien\n")
    assert MountSettings.from_json(found.to_json()) == found
    assert found.client.view.owners.claim_uid == os.geteuid()
    assert (found.client.cache.kind, found.client.cache.alien) == ("none", Path("/alien"))


def test_variant_links_see_parameters_and_no_secret_of_the_environment(settings):
    found = settings("CVMFS_ARCH=arm", {"CVMFS_SITE": "lab", "AWS_SECRET_ACCESS_KEY": "x"})
    variables = found.client.view.variables
    assert (variables["CVMFS_ARCH"], variables["CVMFS_SITE"]) == ("arm", "lab")
    assert "AWS_SECRET_ACCESS_KEY" not in variables


@pytest.mark.parametrize(
    "line",
    [
        "CVMFS_QUOTA_LIMIT=much",
        "CVMFS_TIMEOUT=0",
        "CVMFS_IPFAMILY_PREFER=5",
        "CVMFS_TALK_SOCKET=relative",
        "CVMFS_UID_MAP=/missing",
        "CVMFS_MAGIC_XATTRS_VISIBILITY=some",
        "CVMFS_XATTR_PRIVILEGED_GIDS=wheel",
    ],
)
def test_a_value_that_makes_no_sense_names_its_line(settings, line):
    with pytest.raises(ConfigError) as caught:
        settings(line)
    assert "default.local:3" in str(caught.value)


def test_a_repository_without_a_key_tells_where_to_put_one(etc, home):
    (etc / "default.local").write_text(f"CVMFS_SERVER_URL=http://a\nCVMFS_KEYS_DIR={etc}/none\n")
    with pytest.raises(NotFoundError) as caught:
        configured_settings(NAME, home=home, environment={}, root=PurePosixPath(etc))
    assert f"{etc}/none" in caught.value.advice


def test_what_is_not_configured_is_left_to_others(etc, home):
    assert configured_settings(NAME, home=home, environment={}, root=PurePosixPath(etc)) is None
    nowhere = PurePosixPath(etc / "none")
    assert configured_settings(NAME, home=home, environment={}, root=nowhere) is None


def test_the_listed_repositories_have_their_full_names(etc):
    (etc / "default.local").write_text(
        "CVMFS_REPOSITORIES=sft,grid.other.test,sft\nCVMFS_DEFAULT_DOMAIN=cernvm.test\n"
    )
    names = configured_names(environment={}, root=PurePosixPath(etc))
    assert names == ("sft.cernvm.test", "grid.other.test")


def test_what_is_no_regular_file_is_taken_for_absent(etc):
    os.mkfifo(etc / "default.local")
    (etc / "default.conf").mkdir()
    assert read_parameters(NAME, root=PurePosixPath(etc)).files == ()


def test_a_file_that_is_too_large_is_refused(etc):
    (etc / "default.local").write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger"):
        read_parameters(NAME, root=PurePosixPath(etc))


def test_the_table_says_taken_of_exactly_what_is_looked_at():
    modules = Path(mapping.__file__).parent.glob("*.py")
    # server.py reads what publishers are told, the table what clients are
    source = "".join(path.read_text() for path in modules if path.name != "server.py")
    looked_at = set(re.findall(r'"(CVMFS_[A-Z_]+)"', source))
    known = known_parameters()
    assert looked_at <= set(known)
    told = {name for name, row in known.items() if row.use.value == "taken"}
    only_for_references = {"CVMFS_CLIENT_PROFILE", "CVMFS_USE_CDN"}
    assert told - looked_at == only_for_references
