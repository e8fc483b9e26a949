"""What a data folder has to serve: the repositories that are made in it, and the replicas."""

from __future__ import annotations

from cernvm.core.home import Home
from cernvm.fs.publish.repository import known_repositories
from cernvm.fs.replicate.replica import known_replicas


def known_storages(home: Home) -> dict[str, str]:
    """The location of each one's store, by its name."""
    copied = {replica.name: replica.storage for replica in known_replicas(home)}
    return copied | {made.name: made.storage for made in known_repositories(home)}
