"""The files of /etc/cvmfs, in the original's order, and the configuration repository among them."""

from contextlib import contextmanager
from pathlib import PurePosixPath

import pytest

from cernvm.core.errors import ConfigError, HostError, InvalidInputError
from cernvm.fs.parameters import read_parameters
from cernvm.fs.parameters.documents import MemoryDocuments

NAME = "sft.cernvm.test"
ROOT = PurePosixPath("/etc/cvmfs")
ORDER = [
    "/etc/cvmfs/default.conf",
    "/etc/cvmfs/default.d/10-a.conf",
    "/etc/cvmfs/default.d/20-b.conf",
    "/cvmfs/config.test/etc/cvmfs/default.conf",
    "/etc/cvmfs/default.local",
    "/cvmfs/config.test/etc/cvmfs/domain.d/cernvm.test.conf",
    "/etc/cvmfs/domain.d/cernvm.test.conf",
    "/etc/cvmfs/domain.d/cernvm.test.local",
    "/cvmfs/config.test/etc/cvmfs/config.d/sft.cernvm.test.conf",
    "/etc/cvmfs/config.d/sft.cernvm.test.conf",
    "/etc/cvmfs/config.d/sft.cernvm.test.local",
]


def read(files, config=None, name=NAME, **more):
    @contextmanager
    def open_repository(parameters):
        opened.append(parameters)
        if isinstance(config, Exception):
            raise config
        yield MemoryDocuments(config)

    opened = []
    parameters = read_parameters(
        name,
        root=ROOT,
        documents=MemoryDocuments(files),
        open_repository=None if config is None else open_repository,
        **more,
    )
    return parameters, opened


def test_a_later_file_wins_over_all_before_it():
    text = {path: f"CVMFS_A=${{CVMFS_A}}{chr(97 + i)}\n" for i, path in enumerate(ORDER)}
    text[ORDER[0]] += "CVMFS_CONFIG_REPOSITORY=config.test\n"
    folder = "/cvmfs/config.test"
    local = {path: content for path, content in text.items() if not path.startswith(folder)}
    inner = {path.removeprefix(folder): t for path, t in text.items() if path.startswith(folder)}
    parameters, _ = read({**local, "/etc/cvmfs/default.d/README": "!"}, inner)
    assert parameters.files == tuple(ORDER)
    assert parameters.text("CVMFS_A") == "abcdefghijk"
    assert str(parameters.settings["CVMFS_A"].origin) == f"{ORDER[-1]}:1"


def test_the_configuration_repository_is_opened_by_its_own_parameters():
    files = {
        "/etc/cvmfs/default.conf": "CVMFS_CONFIG_REPOSITORY=config.test\nCVMFS_QUOTA_LIMIT=7",
        "/etc/cvmfs/config.d/config.test.conf": "CVMFS_SERVER_URL=http://config/@fqrn@",
    }
    _, (own,) = read(files, {})
    assert own.repository == "config.test"
    assert own.text("CVMFS_SERVER_URL") == "http://config/config.test"


def test_the_configuration_repository_itself_is_configured_without_itself():
    files = {"/etc/cvmfs/default.conf": "CVMFS_CONFIG_REPOSITORY=config.test"}
    _, opened = read(files, {"/etc/cvmfs/default.conf": "CVMFS_A=1"}, "config.test")
    assert opened == []


def test_a_configuration_repository_may_include_its_own_files():
    files = {"/etc/cvmfs/default.conf": "CVMFS_CONFIG_REPOSITORY=config.test"}
    config = {
        "/etc/cvmfs/domain.d/cernvm.test.conf": ". ../common.conf",
        "/etc/cvmfs/common.conf": "CVMFS_A=1",
    }
    assert read(files, config)[0].text("CVMFS_A") == "1"


def test_a_late_file_cannot_choose_the_configuration_repository():
    files = {
        "/etc/cvmfs/default.conf": "CVMFS_CONFIG_REPOSITORY=config.test",
        "/etc/cvmfs/default.local": "CVMFS_CONFIG_REPOSITORY=evil.test",
    }
    parameters, (own,) = read(files, {})
    assert own.repository == "config.test"
    assert any("CVMFS_CONFIG_REPOSITORY keeps" in warned.what for warned in parameters.warnings)


def test_a_configuration_repository_that_cannot_be_read_is_left_out_and_told():
    files = {"/etc/cvmfs/default.conf": "CVMFS_CONFIG_REPOSITORY=config.test\nCVMFS_A=1"}
    parameters, _ = read(files, HostError("http://config", "it is gone"))
    assert parameters.text("CVMFS_A") == "1"
    assert any("config.test: it cannot be read" in str(warned) for warned in parameters.warnings)


def test_a_required_configuration_repository_that_cannot_be_read_is_an_error():
    files = {
        "/etc/cvmfs/default.conf": "CVMFS_CONFIG_REPOSITORY=config.test\nCVMFS_CONFIG_REPO_REQUIRED=yes"
    }
    with pytest.raises(HostError):
        read(files, HostError("http://config", "it is gone"))


@pytest.mark.parametrize("name", ["../x.test", "a/b.test", "nodot", ""])
def test_a_configuration_repository_must_have_the_name_of_one(name):
    files = {"/etc/cvmfs/default.conf": f"CVMFS_CONFIG_REPOSITORY={name}"}
    if not name:
        assert read(files, {})[1] == []
        return
    with pytest.raises(ConfigError, match="is no repository"):
        read(files, {})


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/../b.test", "", "x" * 300])
def test_a_repository_whose_name_would_leave_the_folder_is_refused(name):
    with pytest.raises(InvalidInputError):
        read({}, name=name)


def test_a_name_without_a_dot_gets_the_default_domain():
    files = {"/etc/cvmfs/default.local": "CVMFS_DEFAULT_DOMAIN=cernvm.test"}
    assert read(files, name="sft")[0].repository == NAME


def test_unknown_parameters_are_told_with_the_nearest_one():
    files = {"/etc/cvmfs/default.local": "CVMFS_HTPP_PROXY=DIRECT\nCVMFS_S3_HOST=x\nOTHER=1"}
    (warned,) = read(files)[0].warnings
    assert str(warned).endswith(
        "default.local:1: CVMFS_HTPP_PROXY is no parameter of a client; did you mean CVMFS_HTTP_PROXY?"
    )


def test_references_see_the_environment_but_it_sets_nothing():
    files = {"/etc/cvmfs/default.local": "CVMFS_A=${CVMFS_SITE:-none}"}
    parameters, _ = read(files, environment={"CVMFS_SITE": "lab", "CVMFS_B": "1"})
    assert parameters.text("CVMFS_A") == "lab"
    assert not parameters.is_set("CVMFS_B")


@pytest.mark.parametrize(
    ("text", "is_on"), [("yes", True), ("ON", True), ("1", True), ("no", False), ("maybe", False)]
)
def test_a_switch_is_on_for_yes_on_and_1(text, is_on):
    parameters, _ = read({"/etc/cvmfs/default.local": f"CVMFS_A={text}"})
    assert parameters.switch("CVMFS_A") is is_on


def test_a_number_that_is_none_is_an_error_that_names_the_line():
    parameters, _ = read({"/etc/cvmfs/default.local": "\nCVMFS_QUOTA_LIMIT=4G"})
    with pytest.raises(ConfigError) as caught:
        parameters.number("CVMFS_QUOTA_LIMIT", 1)
    assert "default.local:2" in caught.value.source


def test_keys_are_found_in_the_configuration_repository_while_it_is_open():
    files = {"/etc/cvmfs/default.conf": "CVMFS_CONFIG_REPOSITORY=config.test"}
    config = {
        "/etc/cvmfs/domain.d/cernvm.test.conf": "CVMFS_KEYS_DIR=/cvmfs/config.test/etc/cvmfs/keys",
        "/etc/cvmfs/keys/a.pub": "KEY",
        "/etc/cvmfs/keys/README": "no key",
    }
    parameters, _ = read(files, config)
    assert parameters.keys == (("/cvmfs/config.test/etc/cvmfs/keys/a.pub", b"KEY"),)


def test_named_keys_go_before_a_folder_of_keys():
    files = {
        "/etc/cvmfs/default.conf": "CVMFS_PUBLIC_KEY=/k/a.pub:/k/missing.pub\nCVMFS_KEYS_DIR=/d",
        "/k/a.pub": "A",
        "/d/b.pub": "B",
    }
    assert read(files)[0].keys == (("/k/a.pub", b"A"),)
