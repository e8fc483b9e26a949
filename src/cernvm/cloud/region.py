"""Region files: where a cloud is and with which credentials it is used.

Shape: INI, `[Credentials]` access_key_id, secret_access_key, keypair_name and `[Service]` Region, Url, Kind.
Source: docs/formats/ec2.md, "Region files".
"""

from __future__ import annotations

import configparser
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cernvm.core.errors import ConfigError, InvalidInputError, NotFoundError
from cernvm.core.home import Home
from cernvm.core.log import fields

MAX_FILE_BYTES = 64 * 1024
KEYS = {
    "Credentials": ("access_key_id", "secret_access_key", "keypair_name", "private_key_path"),
    "Service": ("region", "url", "kind"),
}

_NAME = re.compile(r"\w[\w.-]{0,62}", re.ASCII)
_OF_OTHERS = 0o077

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Region:
    """One account in one region. An empty `url` is Amazon's own; `source` is the file that said so."""

    name: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    url: str = ""
    signing_region: str = ""
    kind: str = "ec2"
    key_name: str = ""
    source: str = ""


def find_region(name: str, *, home: Home, environment: Mapping[str, str]) -> Region:
    """The region of that name, from the first file that describes it, credentials completed from the environment.

    `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` win over a file in `~/.ec2` or the working folder, as the EC2 tools
    have it, but not over one in `$CVM_HOME/clouds`: those are for that cloud and no other. A file's Url and Region win
    over `EC2_URL`.
    Errors: `NotFoundError` without any description; `ConfigError` for a damaged or incomplete one.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"{name!r} is no region name", advice="use letters, digits, . _ -")
    own = home.clouds / f"{name}.conf"
    ec2 = Path(environment.get("HOME", "/")) / ".ec2"
    shared = ec2 / "ec2.conf"
    for path in (own, ec2 / f"{name}.conf", Path(f"{name}.conf")):
        if path.is_file():
            return _build(name, _read(path), environment, source=path, is_own=path == own)
    if shared.is_file():
        values = _read(shared)
        if values.get("region", name) == name:
            return _build(name, values, environment, source=shared, is_own=False)
    if environment.get("EC2_URL"):
        return _build(name, {}, environment, source=None, is_own=False)
    raise NotFoundError(
        "region",
        name,
        advice=f"start a site (cvm site serve), or write {own}; "
        f"known are: {', '.join(known_regions(home)) or 'none'}",
    )


def known_regions(home: Home) -> Sequence[str]:
    """The names of the regions that $CVM_HOME/clouds describes."""
    return sorted(path.stem for path in home.clouds.glob("*.conf"))


def _read(path: Path) -> dict[str, str]:
    """All keys of both sections, in lower case; anything else is an error."""
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#", ";"))
    try:
        with path.open("rb") as file:
            is_open_to_others = bool(os.fstat(file.fileno()).st_mode & _OF_OTHERS)
            parser.read_string(file.read(MAX_FILE_BYTES).decode("utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(
            str(error).splitlines()[0],
            source=str(path),
            advice="docs/formats/ec2.md, Region files, shows one",
        ) from None
    values: dict[str, str] = {}
    for section in parser.sections():
        for key, value in parser[section].items():
            if key not in KEYS.get(section, ()):
                raise ConfigError(
                    "unknown setting",
                    source=str(path),
                    section=section,
                    key=key,
                    advice=f"known are {', '.join(sorted(KEYS.get(section, ()))) or ', '.join(KEYS)}",
                )
            values[key] = value
    if is_open_to_others and values.get("secret_access_key"):
        log.warning(
            "region.secret_open_to_others", extra=fields(path=path, mend=f"chmod 600 {path}")
        )
    return values


def _build(
    name: str,
    values: Mapping[str, str],
    environment: Mapping[str, str],
    *,
    source: Path | None,
    is_own: bool,
) -> Region:
    given = dict(values)
    names = {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"}
    from_environment = {key: environment.get(variable, "") for key, variable in names.items()}
    has_own = all(given.get(key) for key in names)
    if all(from_environment.values()) and not (is_own and has_own):
        given |= from_environment
    for key, variable in names.items():
        if not given.get(key):
            raise ConfigError(
                "this setting is missing",
                source=str(source or variable),
                section="Credentials",
                key=key,
                advice=f"write it there, or set {variable}",
            )
    url = given.get("url") or environment.get("EC2_URL", "")
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise ConfigError(
            f"{url[:80]!r} is no http address", source=str(source), section="Service", key="Url"
        )
    return Region(
        name=name,
        access_key_id=given["access_key_id"],
        secret_access_key=given["secret_access_key"],
        url=url,
        signing_region=given.get("region") or name,
        kind=given.get("kind") or "ec2",
        key_name=given.get("keypair_name", ""),
        source=str(source or "the environment"),
    )
