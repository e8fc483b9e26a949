import os
import subprocess
import sys

import pytest

from cernvm.core.errors import ConflictError, LeaseLostError
from cernvm.core.lock import take_lock

BUSY = LeaseLostError("somebody else is here")


def test_one_holder_at_a_time(tmp_path):
    held = take_lock(tmp_path / "lock", BUSY)
    with pytest.raises(LeaseLostError, match="somebody else"):
        take_lock(tmp_path / "lock", BUSY)
    os.close(held)

    os.close(take_lock(tmp_path / "lock", BUSY))


def test_a_holder_that_dies_lets_go(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from cernvm.core.lock import take_lock;"
        "take_lock(Path(sys.argv[1]), None); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(ConflictError):
            take_lock(tmp_path / "lock", BUSY)
        holder.kill()
        holder.wait(5)

    os.close(take_lock(tmp_path / "lock", BUSY))


def test_a_lock_is_nobody_elses_to_read(tmp_path):
    os.close(take_lock(tmp_path / "lock", BUSY))

    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
