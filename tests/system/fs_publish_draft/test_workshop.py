"""Where drafts lie: what a crash or a full disk leaves of it."""

import os
import signal
import subprocess
import sys

import pytest

from cernvm.core.errors import SpaceError
from cernvm.core.workshop import open_workshop
from unit.fs_publish_draft.conftest import Press, file_item

HOLD = """
import sys, time
from pathlib import Path
from cernvm.core.workshop import open_workshop
with open_workshop(Path(sys.argv[1])) as folder:
    (folder / "0.db").write_bytes(b"x")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_killed_owners_folder_is_swept_by_the_next_and_a_living_ones_is_not(tmp_path):
    drafts = tmp_path / "drafts"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, drafts], stdout=subprocess.PIPE, text=True
    )
    try:
        left = holder.stdout.readline().strip()
        with open_workshop(drafts):
            assert os.path.exists(left)
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        assert os.path.exists(left)
        with open_workshop(drafts) as folder:
            assert list(drafts.iterdir()) == [folder]
        assert list(drafts.iterdir()) == []
    finally:
        holder.kill()
        holder.wait(10)
        holder.stdout.close()


def test_the_folder_is_its_owners_only(tmp_path):
    with open_workshop(tmp_path / "drafts") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.parent.stat().st_mode & 0o777 == 0o700


def fill(draft):
    for number in range(20_000):
        draft.put(file_item(b"/%d" % number))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_an_error_that_says_so(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", home], check=True)
    try:
        press = Press(home)
        before = dict(press.store.content)
        with pytest.raises(SpaceError):
            press.publish(fill)
        assert press.store.content == before
        assert press.publish(lambda draft: draft.put(file_item(b"/one"))) is not None
    finally:
        subprocess.run(["umount", home], check=True)
