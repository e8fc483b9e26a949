"""What a site offers: the settings of `site.toml` as one value, each checked when it is built.

Example::

    name = "local"
    instances_max = 16

    [[images]]
    name = "cernvm-devel"
    repository = "os.cernvm.test"

    [[repositories]]
    name = "os.cernvm.test"
    url = "http://127.0.0.1:8000/cvmfs/os.cernvm.test"
    public_key = "keys/os.cernvm.test.pub"

    [[forwards]]
    port = 5222
    target = "127.0.0.1:5222"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from cernvm.core.errors import ConfigError
from cernvm.core.home import check_repository_name
from cernvm.site.instance import Image
from cernvm.site.network import METADATA_ADDRESS

HYPERVISORS = ("container", "memory")

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_IMAGE_NAME = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_TARGET = re.compile(r"(?P<host>[\w.-]{1,253}|\[[0-9a-f:]+\]):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image on offer: its name and the repository that carries its operating system."""

    name: str
    repository: str

    def __post_init__(self) -> None:
        check_repository_name(self.repository)
        if not _IMAGE_NAME.fullmatch(self.name):
            raise ConfigError(f"{self.name!r} is no image name", section="images", key="name")


@dataclass(frozen=True, slots=True)
class Export:
    """A repository to mount: its name, where it is fetched from (`URL;URL`), and the key it must be signed with."""

    name: str
    url: str
    public_key: Path

    def __post_init__(self) -> None:
        check_repository_name(self.name)


@dataclass(frozen=True, slots=True)
class ForwardConfig:
    """A service outside that instances reach as `gateway:port`; `target` is its real `host:port`."""

    port: int
    target: str

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ConfigError(f"{self.port} is no port", section="forwards", key="port")
        match = _TARGET.fullmatch(self.target)
        if match is None or not 0 < int(match["port"]) < 65536:
            raise ConfigError(
                f"expected host:port, found {self.target!r}", section="forwards", key="target"
            )

    @property
    def host(self) -> str:
        """The host part of the target."""
        return self.target.rpartition(":")[0].strip("[]")

    @property
    def target_port(self) -> int:
        """The port part of the target."""
        return int(self.target.rpartition(":")[2])


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """One site cloud.

    Units: `instances_max` counts instances that are not terminated. `hypervisor` is `container`, or `memory`, which
    starts nothing and serves to try the API. `metadata_tokens` is `optional`, or `required` to refuse IMDSv1.
    """

    name: str = "local"
    port: int = 0
    subnet: str = "10.77.0.0/24"
    hypervisor: str = "container"
    metadata_tokens: str = "optional"
    instances_max: int = 16
    images: tuple[ImageConfig, ...] = ()
    repositories: tuple[Export, ...] = ()
    forwards: tuple[ForwardConfig, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.name!r} is no site name: use lower-case letters, digits, -", key="name"
            )
        if not 0 <= self.port < 65536:
            raise ConfigError(f"{self.port} is no port", key="port")
        if self.hypervisor not in HYPERVISORS:
            raise ConfigError(f"expected one of {', '.join(HYPERVISORS)}", key="hypervisor")
        if self.metadata_tokens not in ("optional", "required"):
            raise ConfigError("expected optional or required", key="metadata_tokens")
        if self.instances_max < 1:
            raise ConfigError("expected at least 1", key="instances_max")
        _check_subnet(self.subnet)
        self._check_lists()

    def _check_lists(self) -> None:
        for section, names in (
            ("images", [image.name for image in self.images]),
            ("repositories", [repository.name for repository in self.repositories]),
            ("forwards", [str(forward.port) for forward in self.forwards]),
        ):
            if repeated := {name for name in names if names.count(name) > 1}:
                raise ConfigError(f"{repeated.pop()} appears twice", section=section)
        carried = {repository.name for repository in self.repositories}
        for image in self.images:
            if self.hypervisor == "container" and image.repository not in carried:
                raise ConfigError(
                    f"the image {image.name} lies in {image.repository}, which is not in [[repositories]]",
                    section="images",
                    key="repository",
                )

    @property
    def network(self) -> IPv4Network:
        """The instances' subnet."""
        return IPv4Network(self.subnet)

    @property
    def gateway(self) -> IPv4Address:
        """The site's own address in the subnet, its first: where instances reach forwarded services."""
        return self.network.network_address + 1

    @property
    def offered(self) -> tuple[Image, ...]:
        """The images on offer."""
        return tuple(Image(image.name, image.repository) for image in self.images)


def _check_subnet(text: str) -> None:
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise ConfigError(f"no IPv4 subnet: {error}", key="subnet") from None
    if not 16 <= network.prefixlen <= 29:
        raise ConfigError(f"expected a subnet from /16 to /29, found {text}", key="subnet")
    if METADATA_ADDRESS in network:
        raise ConfigError("the subnet holds the metadata service's address", key="subnet")
