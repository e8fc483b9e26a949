"""The last step: outputs fetched from the storage and checked, and drawn with the published software itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cernvm.box.commands import MOST_KILLS
from cernvm.box.mounts import unmount_below
from cernvm.box.release.tools import run_tool
from cernvm.box.report import Output
from cernvm.box.story import SOFTWARE, Story
from cernvm.core.clock import SystemClock
from cernvm.core.errors import CvmError, DigestMismatchError, FormatError, UnavailableError
from cernvm.core.home import ensure_folder
from cernvm.core.units import format_bytes
from cernvm.pilot.job import Job
from cernvm.storage import Capability, StorageClient, mint_token
from cernvm.storage.key import load_key

TOKEN_LIFE_S = 600
PLOT_DEADLINE_S = 120.0
PICTURE = "events.png"
MOUNT = "report-mount"


def make_result(story: Story) -> str:
    """Fetch every output, check its digest and its events, and draw the picture."""
    folder = ensure_folder(story.options.report / "outputs")
    _remove_earlier(folder)
    fetched = [path for job in story.jobs for path in fetch(story, job, folder)]
    drawn = draw(story, [path for _, path in fetched])
    events = {row["path"]: int(row["events"]) for row in drawn["files"]}
    for job, path in fetched:
        found = events[str(path)]
        if found != story.options.events:
            raise CvmError(f"{path} holds {found} events, not {story.options.events}")
        (declared,) = (output for output in job.declared if output.name == path.name)
        story.outputs.append(Output(job.id, path, found, declared.size_bytes, declared.sha256))
    story.plots = [Path(plot) for plot in drawn["plots"]]
    size = sum(output.size_bytes for output in story.outputs)
    return f"{sum(events.values()):,} events in {len(events)} files, {format_bytes(size)}, checked"


def fetch(story: Story, job: Job, folder: Path) -> Iterable[tuple[Job, Path]]:
    """Bring a job's declared outputs into `folder`. Errors: `DigestMismatchError`; those of the storage."""
    client = _storage(story)
    for output in job.declared:
        path = folder / output.name
        story.screen.note(f"fetching {output.name}")
        while True:
            try:
                found = _fetch(client, f"{job.folder}/{output.name}", path)
                break
            except UnavailableError:
                if not story.commands.look_after_services():
                    raise
        if found != output.sha256:
            raise DigestMismatchError(expected=output.sha256, got=found, source=str(path))
        yield job, path


def _fetch(client: StorageClient, name: str, path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for block in client.get(name):
            hasher.update(block)
            file.write(block)
    return hasher.hexdigest()


def draw(story: Story, paths: list[Path]) -> dict[str, Any]:
    """Check and draw the files with `bin/plot` of the repository, mounted here; returns what it printed."""
    story.screen.note(f"mounting {SOFTWARE}")
    point = ensure_folder(story.home.run / MOUNT)
    plot = point / "bin/plot"
    url = f"http://{story.addresses['repo']}/cvmfs/{SOFTWARE}"
    key = story.home.keys / f"{SOFTWARE}.pub"
    words = ["mount", SOFTWARE, str(point), "--url", url, "--public-key", str(key), "--foreground"]
    picture = story.options.report / PICTURE
    command = [str(plot), "--output", str(picture), *map(str, paths)]
    for tries_left in reversed(range(MOST_KILLS + 1)):
        story.commands.start("mount", *words, is_ready=plot.is_file)
        story.screen.note("reading the events and drawing them")
        try:
            said = run_tool(command, progress=_nothing, source="plot", deadline_s=PLOT_DEADLINE_S)
            break
        except CvmError:
            was_killed = not story.commands.is_running("mount")
            story.commands.stop("mount")
            unmount_below(story.home.run)  # a dead mount may still look ready
            if not (story.commands.look_after_services() or was_killed) or not tries_left:
                raise
    story.commands.stop("mount")
    try:
        document: dict[str, Any] = json.loads(said[-1])
    except ValueError:
        raise FormatError("no JSON was printed", where=str(plot)) from None
    return document


def _storage(story: Story) -> StorageClient:
    until = int(SystemClock().now().timestamp()) + TOKEN_LIFE_S
    key = load_key(story.home.path / "storage.key")
    token = mint_token(key, Capability("", ("GET", "HEAD"), until, 0, "demo"))
    return StorageClient(f"http://{story.addresses['storage']}", token)


def _remove_earlier(folder: Path) -> None:
    for path in folder.glob("*_0.evgen.pool.root"):
        path.unlink()


def _nothing(_line: str) -> None:
    """`plot` says nothing while it works."""
