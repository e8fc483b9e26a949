"""Hooks: programs of the publisher's own that run before and after each publication of a repository.

Shape: executables in `$CVM_HOME/repositories/NAME.hooks` whose names begin with `before-publish` or `after-publish`,
run in the order of their names.
Source: docs/formats/hooks.md.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path

from cernvm.core.errors import DeniedError, InvalidInputError
from cernvm.core.linux import die_with_parent
from cernvm.core.log import fields
from cernvm.fs.publish.repository import Repository

log = logging.getLogger(__name__)

_MOST_OUTPUT = 2_000


class Hook(Enum):
    """When hooks run; values are how their names begin."""

    BEFORE = "before-publish"
    AFTER = "after-publish"


def hooks_folder(repository: Repository) -> Path:
    """Where the hooks of a repository lie, if it has any."""
    return repository.index.with_name(f"{repository.name}.hooks")


def find_hooks(repository: Repository, hook: Hook) -> list[Path]:
    """The programs to run, in order.

    Errors: `DeniedError` for one that somebody else could have written.
    """
    folder = hooks_folder(repository)
    if not folder.is_dir():
        return []
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.name.startswith(hook.value) and os.access(path, os.X_OK) and path.is_file()
    ]
    for path in (folder, *found) if found else ():
        status = path.stat()
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
            raise DeniedError(
                f"others may write the hook {path}",
                advice=f"own it, and keep others from it: chmod go-w {path}",
            )
    return found


def run_hooks(repository: Repository, hook: Hook, event: Mapping[str, object]) -> None:
    """Run the hooks of a moment with the event as JSON on their standard input.

    Errors: `InvalidInputError` naming the hook before a publication that failed or took too long; after one, it is
    only logged, as the revision stands.
    """
    for path in find_hooks(repository, hook):
        reason = _run(path, {"event": hook.value, **event}, repository)
        if reason is None:
            continue
        if hook is Hook.BEFORE:
            raise InvalidInputError(
                f"the hook {path.name} {reason}, so nothing was published",
                advice=f"mend what it complains of, or the hook: {path}",
            )
        log.warning("hook.failed", extra=fields(hook=path, reason=reason))


def _run(path: Path, event: Mapping[str, object], repository: Repository) -> str | None:
    """What was wrong with a hook's run, if anything."""
    environment = {**os.environ, "CVM_HOOK": str(event["event"]), "CVM_REPOSITORY": repository.name}
    deadline_s = repository.settings.hook_deadline_s
    try:
        child = subprocess.Popen(
            [str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=path.parent,
            start_new_session=True,  # so that its own children end with it
            preexec_fn=die_with_parent,  # noqa: PLW1509  # prctl only
        )
    except OSError as exc:
        return f"cannot be run: {exc.strerror or exc}"
    try:
        output, _ = child.communicate(json.dumps(event).encode(), deadline_s)
    except subprocess.TimeoutExpired:
        return f"took longer than {deadline_s:.0f} s"
    finally:
        _end(child)
    if child.returncode:
        said = output[-_MOST_OUTPUT:].decode("utf-8", "replace").strip()
        return f"ended with status {child.returncode}{': ' + said if said else ''}"
    return None


def _end(child: subprocess.Popen[bytes]) -> None:
    """End what is left of a hook and all that it started in its session."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait(10)
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
