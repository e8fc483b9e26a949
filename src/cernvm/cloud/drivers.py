"""The drivers: which class speaks to which kind of cloud; each is imported when it is used."""

from __future__ import annotations

import importlib
from typing import cast

from cernvm.cloud.port import Cloud
from cernvm.cloud.region import Region
from cernvm.core.errors import ConfigError

DRIVERS = {"ec2": "cernvm.cloud.ec2:Ec2Cloud"}


def open_cloud(region: Region) -> Cloud:
    """The cloud of a region, ready to be asked.

    Errors: `ConfigError` for a kind without a driver.
    """
    if region.kind not in DRIVERS:
        raise ConfigError(
            f"no driver for {region.kind!r}; known are {', '.join(DRIVERS)}",
            source=region.source,
            section="Service",
            key="Kind",
        )
    module, _, name = DRIVERS[region.kind].partition(":")
    return cast("Cloud", getattr(importlib.import_module(module), name)(region))
