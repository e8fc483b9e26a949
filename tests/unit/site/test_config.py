from ipaddress import IPv4Address

import pytest

from cernvm.core.config import build
from cernvm.core.errors import ConfigError, CvmError
from cernvm.site.config import SiteConfig

OS = {
    "name": "os.cernvm.test",
    "url": "http://127.0.0.1:1/cvmfs/os.cernvm.test",
    "public_key": "os.pub",
}
WHOLE = {
    "name": "cern",
    "images": [{"name": "cernvm", "repository": "os.cernvm.test"}],
    "repositories": [OS],
    "forwards": [{"port": 5222, "target": "127.0.0.1:15222"}],
}


def test_a_whole_configuration_is_read():
    config = build(WHOLE, SiteConfig)

    assert config.gateway == IPv4Address("10.77.0.1")
    assert [image.name for image in config.offered] == ["cernvm"]
    assert (config.forwards[0].host, config.forwards[0].target_port) == ("127.0.0.1", 15222)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "No Such"},
        {"port": 70000},
        {"hypervisor": "vmware"},
        {"metadata_tokens": "never"},
        {"instances_max": 0},
        {"subnet": "10.77.0.0/31"},
        {"subnet": "10.77.0.1/24"},
        {"subnet": "169.254.0.0/16"},
        {"subnet": "fe80::/64"},
        {"repositories": []},
        {"repositories": [OS, OS]},
        {"images": [{"name": "../x", "repository": "os.cernvm.test"}]},
        {"images": [{"name": "x", "repository": "../os"}]},
        {"forwards": [{"port": 0, "target": "127.0.0.1:1"}]},
        {"forwards": [{"port": 1, "target": "127.0.0.1"}]},
        {"forwards": [{"port": 1, "target": "127.0.0.1:99999"}]},
        {"forwards": [{"port": 1, "target": "a:1"}, {"port": 1, "target": "b:1"}]},
        {"colour": "red"},
    ],
)
def test_a_wrong_setting_is_refused(change):
    with pytest.raises(CvmError):
        build({**WHOLE, **change}, SiteConfig)


def test_the_error_names_section_and_key():
    with pytest.raises(ConfigError, match=r"\[forwards\], target"):
        build({"forwards": [{"port": 1, "target": "nowhere"}]}, SiteConfig)
