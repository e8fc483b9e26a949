"""What a mount costs above ext4: microseconds per look-up, per open and read, per listed name, in one run.

Usage: taskset -c 0 .venv/bin/python bench/fuse.py [--files N] [--folder DIR]

A tree in memory is served on /dev/fuse by a process of its own; the same tree is written below DIR (on the disk to
compare with). Pinned to one CPU the numbers repeat; unpinned they measure how fast the machine wakes another CPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONTENT = b"x" * 1000
SERVER = """
import sys
from pathlib import Path
from cernvm.fs.fuse import *
nodes = {f"d/f{i:05}": MemoryNode(0o100644, b"x" * 1000) for i in range(int(sys.argv[2]))}
session = Session(attach(Path(sys.argv[1]), source="bench.test"), MemoryTree(nodes),
                  validity=Validity(3600, 3600, 3600))
session.serve(ready=lambda: print("ready", flush=True))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder.absolute()) as scratch:
        disk, point = Path(scratch, "disk"), Path(scratch, "mnt")
        (disk / "d").mkdir(parents=True)
        point.mkdir()
        for number in range(options.files):
            (disk / f"d/f{number:05}").write_bytes(CONTENT)
        native = measure(disk / "d", options.files)
        mounted = measure_mount(point, options.files)
    print(f"{'':24}{'mount µs':>10}{'disk µs':>10}{'ratio':>8}")
    for name, value in mounted.items():
        print(f"{name:24}{value:10.2f}{native[name]:10.2f}{value / native[name]:8.1f}")


def measure_mount(point, files):
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, point, str(files)], stdout=subprocess.PIPE, text=True
    )
    try:
        server.stdout.readline()
        return measure(point / "d", files)
    finally:
        subprocess.run(["umount", "-l", point], check=False)
        server.kill()
        server.wait()


def measure(folder, files):
    """Figures from a process of its own, whose first accesses are the first of all on a fresh mount."""
    finished = subprocess.run(
        [sys.executable, __file__, "--client", folder, str(files)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(finished.stdout)


def client(folder, files):
    paths = [f"{folder}/f{number:05}" for number in range(files)]

    def each(action):
        begin = time.perf_counter()
        for path in paths:
            action(path)
        return (time.perf_counter() - begin) / files * 1e6

    def read(path):
        descriptor = os.open(path, os.O_RDONLY)
        os.read(descriptor, 4096)
        os.close(descriptor)

    def listing():
        begin = time.perf_counter()
        sum(entry.stat().st_size for entry in os.scandir(folder))
        return (time.perf_counter() - begin) / files * 1e6

    figures = {
        "look-up, first": each(os.stat),
        "look-up, again": each(os.stat),
        "open and read, first": each(read),
        "open and read, again": each(read),
        "list with stat": listing(),
        "list with stat, again": listing(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        client(sys.argv[2], int(sys.argv[3]))
    else:
        main()
