"""What `/etc/cvmfs` of this machine says of a repository: parameters and settings in one step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from cernvm.core.home import Home
from cernvm.core.log import fields
from cernvm.fs.mount import MountSettings
from cernvm.fs.parameters.mapping import default_point, listed_names, settings_of
from cernvm.fs.parameters.reading import ROOT, read_defaults, read_parameters
from cernvm.fs.parameters.repository import OpenedDocuments
from cernvm.fs.parameters.values import Parameters

log = logging.getLogger(__name__)


def configured_parameters(
    repository: str, *, home: Home, environment: Mapping[str, str], root: PurePosixPath = ROOT
) -> Parameters:
    """All parameters of a repository, those of the configuration repository among them.

    Errors: as `read_parameters`.
    """
    opened = OpenedDocuments(home)
    return read_parameters(repository, root=root, environment=environment, open_repository=opened)


def configured_settings(
    repository: str,
    *,
    home: Home,
    environment: Mapping[str, str],
    point: Path | None = None,
    root: PurePosixPath = ROOT,
) -> MountSettings | None:
    """How a repository is mounted by its name alone, at `point` or below `CVMFS_MOUNT_DIR`; None when it has no server.

    Errors: as `read_parameters` and `settings_of`.
    """
    parameters = configured_parameters(repository, home=home, environment=environment, root=root)
    for warned in parameters.warnings:
        log.warning("configuration.odd", extra=fields(origin=str(warned.origin), what=warned.what))
    if not parameters.is_set("CVMFS_SERVER_URL"):
        return None
    place = point or default_point(parameters)
    return settings_of(parameters, home=home, point=place, environment=environment)


def configured_names(
    *, environment: Mapping[str, str], root: PurePosixPath = ROOT
) -> tuple[str, ...]:
    """The repositories that `CVMFS_REPOSITORIES` lists, by their full names."""
    return listed_names(read_defaults(root=root, environment=environment))
