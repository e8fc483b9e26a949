"""Publish a release once: an unchanged one that is published already is left as it is."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from cernvm.box.commands import Commands
from cernvm.box.release.inputs import Progress, Release
from cernvm.core.home import Home, write_atomically
from cernvm.core.units import format_bytes

PUBLISH_DEADLINE_S = 600.0
RENEW_AFTER_S = 7 * 86400.0  # a whitelist lasts a month; publishing again renews it


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published last. Units: `at` is seconds since 1970."""

    digest: str
    revision: int
    at: float


def publish(commands: Commands, name: str, release: Release, note: Progress) -> tuple[str, str]:
    """Have the release in the repository `name`, which is made if it is missing; returns a result and the revision.

    Errors: those of `cvm repo create` and `cvm repo publish`.
    """
    path = release.tree.with_name(f"{release.tree.name}.published")
    last = read_publication(path)
    if last and is_current(last, commands.home, name, release.digest, now=time.time()):
        return f"revision {last.revision} holds it already", f"{name} revision {last.revision}"
    if not (commands.home.repositories / f"{name}.toml").exists():
        note(f"creating {name}")
        commands.run("repo", "create", name)
    note(f"publishing {name}")
    done = commands.json("repo", "publish", name, release.tree, deadline_s=PUBLISH_DEADLINE_S)
    revision = int(done["revision"])
    write_atomically(
        path, json.dumps(asdict(Publication(release.digest, revision, time.time()))).encode()
    )
    result = (
        f"revision {revision}: {done['files']:,} files, {format_bytes(done['read_bytes'])} in, "
        f"{format_bytes(done['stored_bytes'])} stored"
    )
    return result, f"{name} revision {revision}"


def is_current(last: Publication, home: Home, name: str, digest: str, *, now: float) -> bool:
    """Whether the repository still holds this release, and is signed for long enough."""
    is_there = (home.storage / name / ".cvmfspublished").is_file()
    return is_there and last.digest == digest and 0 <= now - last.at < RENEW_AFTER_S


def read_publication(path: Path) -> Publication | None:
    """The last publication; None where there was none or its record is damaged."""
    try:
        row = json.loads(path.read_bytes())
        return Publication(str(row["digest"]), int(row["revision"]), float(row["at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
