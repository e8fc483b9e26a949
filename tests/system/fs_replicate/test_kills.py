"""Replications that are killed: what came stays, and the next one goes on where the last one ended."""

import signal
import subprocess
import sys
import time

import pytest

from cernvm.core.errors import NotFoundError
from cernvm.fs.store.local import LocalStore
from system.replicas import bring, read_replica_back

_RUN = """
import sys
from pathlib import Path
from cernvm.fs.replicate.replica import Replica
from cernvm.fs.replicate.replicating import replicate
from cernvm.fs.replicate.scope import Scope
from cernvm.fs.store.local import LocalStore
name, storage, url, key, packs = sys.argv[1:]
replica = Replica(name, storage, (url,), (Path(key),), Scope(tags=("*",), has_packs=packs == "packs"))
print("begins", flush=True)
replicate(replica, LocalStore(Path(storage)))
"""


def begin(replica, key, *, packs):
    words = [replica.name, replica.storage, replica.urls[0], str(key), packs]
    child = subprocess.Popen([sys.executable, "-c", _RUN, *words], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"begins\n"
    return child


@pytest.mark.timeout(600)
def test_a_kill_at_any_point_leaves_the_last_revision_and_the_next_run_right(
    upstream, copy, count, seeded
):
    key = upstream.key
    served = 0
    for number in range(count(100)):
        packs = seeded.choice(["packs", "none"])
        child = begin(upstream.replica(copy), key, packs=packs)
        with child.stdout:
            time.sleep(seeded.uniform(0, 0.12))
            child.send_signal(signal.SIGKILL)
            child.wait(10)
        try:
            manifest, _ = read_replica_back(LocalStore(copy), key, with_packs=False)
        except NotFoundError:
            assert served == 0
        else:
            assert manifest.revision >= served
            served = manifest.revision
        if number % 3 == 2:
            upstream.change(number + 2)
    before = upstream.server.requests
    done, store = bring(upstream.replica(copy, tags=("*",)))
    read_replica_back(store, key)
    assert done.revision == upstream.revisions[-1].revision
    bring(upstream.replica(copy, tags=("*",)))
    again = upstream.server.requests - before
    assert again < len(list(store.paths("data/")))
