"""Real mounts of trees in memory, served by a thread of the test."""

import os
import subprocess
import threading

import pytest

from cernvm.core.errors import NotFoundError
from cernvm.fs.fuse import Notifier, Session, Validity, attach, detach, mount_at

FOR_EVER = Validity(86400, 86400, 86400)


class Mount:
    def __init__(self, point, tree, **settings):
        self.point = point
        self.descriptor = attach(point, source="memory.test")
        self.connection = mount_at(point).device.partition(":")[2]
        self.notifier = Notifier(self.descriptor)
        self.session = Session(
            self.descriptor, tree, validity=settings.pop("validity", FOR_EVER), **settings
        )
        self.ready = threading.Event()
        self.thread = threading.Thread(
            target=self.session.serve, kwargs={"ready": self.ready.set}, daemon=True
        )
        self.thread.start()
        assert self.ready.wait(5)

    def end(self):
        try:
            detach(self.point, lazily=True)
        except NotFoundError:
            pass
        self.thread.join(2)
        if self.thread.is_alive():
            abort(self.connection)  # a mount namespace of somebody else still holds a copy
            self.thread.join(5)
        assert not self.thread.is_alive()


def abort(connection):
    """Cut a FUSE connection by its number, as the kernel's own emergency exit does."""
    control = "/sys/fs/fuse/connections"
    script = f"mount -t fusectl none {control}; echo 1 > {control}/{connection}/abort"
    subprocess.run(["unshare", "-m", "sh", "-c", script], check=False)


@pytest.fixture
def point(tmp_path, need_fuse):
    folder = tmp_path / "mnt"
    folder.mkdir()
    return folder


@pytest.fixture
def mounted(point):
    made = []

    def make(tree, **settings):
        made.append(Mount(point, tree, **settings))
        return made[-1]

    yield make
    for mount in made:
        mount.end()
        os.close(mount.descriptor)
