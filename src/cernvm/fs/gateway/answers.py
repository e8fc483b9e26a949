"""What a gateway answers: JSON objects with a `status`, as the original's publishers expect them.

Source: docs/formats/gateway.md, "Answers".
"""

from __future__ import annotations

import json
import math
import os
from datetime import datetime
from typing import Any

from cernvm.core.errors import CvmError
from cernvm.fs.gateway.access import Key
from cernvm.fs.gateway.lease import Lease, PathBusyError
from cernvm.fs.publish.repository import Repository

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """A message as bytes: ASCII, so that any bytes of a path survive."""
    return json.dumps(message, separators=(",", ":")).encode()


def describe_problem(error: CvmError) -> Message:
    """An error, for programs by its `kind` and for people."""
    if isinstance(error, PathBusyError):
        # a number: the original has a client that takes no text here, and one that does without
        return {"status": "path_busy", "time_remaining": max(1, math.ceil(error.left_s))}
    message = {"status": "error", "reason": str(error), "kind": type(error).__name__}
    return message | {"advice": error.advice} if error.advice else message


def describe_lease(lease: Lease) -> Message:
    """A lease as anybody may see it: never its token."""
    return {
        "key_id": lease.key_id,
        "path": str(lease.path),
        "expires": _time(lease.expires_at),
        "opened": _time(lease.opened_at),
        "hostname": lease.hostname,
    }


def describe_repository(repository: Repository, keys: list[Key], *, is_open: bool) -> Message:
    """Who may publish what in a repository, and whether leases are given."""
    paths = {
        key.id: os.fsdecode(key.paths[repository.name]) or "/"
        for key in keys
        if repository.name in key.paths
    }
    return {"keys": paths, "enabled": is_open}


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
