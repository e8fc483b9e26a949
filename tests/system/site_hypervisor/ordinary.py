"""Run a command as root of a user namespace whose ids 0 to 65535 are an ordinary user's: `ordinary.py COMMAND…`.

The machine's root starts it; inside, the command has a mount, PID and network namespace and no right on the outside.
"""

import os
import sys

from cernvm.core.linux import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MS_PRIVATE,
    MS_REC,
    die_with_parent,
    mount,
    unshare,
)

FIRST_ID, IDS = 100_000, 65_536


def main(command):
    ready_read, ready_write = os.pipe()
    mapped_read, mapped_write = os.pipe()
    child = os.fork()
    if child == 0:
        die_with_parent()
        unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET)
        os.write(ready_write, b"1")
        os.read(mapped_read, 1)
        os.setresgid(0, 0, 0)
        os.setgroups([])
        os.setresuid(0, 0, 0)
        os._exit(_wait(_fork(command)))
    os.read(ready_read, 1)
    for kind in ("uid", "gid"):
        with open(f"/proc/{child}/{kind}_map", "w") as file:
            file.write(f"0 {FIRST_ID} {IDS}\n")
    os.write(mapped_write, b"1")
    sys.exit(_wait(child))


def _fork(command):
    first = os.fork()
    if first == 0:
        die_with_parent()
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
        mount("proc", "/proc", "proc")
        os.execv(command[0], command)
    return first


def _wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main(sys.argv[1:])
