"""What a mount costs above ext4: look-ups, and reads by each way of opening, in one run.

Usage: taskset -c 0 .venv/bin/python bench/fuse.py [--entries 1000 100000] [--folder DIR] [--only WHAT] [--json FILE]

Repositories made for the purpose are served on /dev/fuse by a process of its own, from a cache below DIR that holds
everything; the same files lie on DIR's disk to compare with. `floor` is a server that does nothing but answer: a read,
a dictionary and a write a request. Pinned to one CPU the numbers repeat; unpinned they measure how fast the machine
wakes another CPU. Every figure is the median of parts of 500 operations.
"""

import argparse
import gc
import json
import mmap
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MANY = 20_000
PART = 500
SMALL, SMALL_BYTES = 2000, 4000
BIG_BYTES = 256 << 20
OPENINGS = ("no-open", "keep-cache", "passthrough")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--only", choices=["look-ups", "opening", "crowd"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory(dir=options.folder.absolute()) as scratch:
        for name, measure in MEASURES.items():
            if options.only in (None, name):
                figures[name] = measure(Path(scratch), options)
                print_table(name, figures[name])
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def print_table(title, rows):
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    widths = [max(len(column), 9) for column in columns]
    heads = (f"{column:>{width + 2}}" for column, width in zip(columns, widths, strict=True))
    print(f"\n{title:32}" + "".join(heads))
    for name, row in rows.items():
        cells = (
            f"{row[column]:>{width + 2}.2f}" if column in row else " " * (width + 2)
            for column, width in zip(columns, widths, strict=True)
        )
        print(f"{name:32}" + "".join(cells))


# What is measured, each from a client process of its own


def look_ups(scratch, options):
    """Microseconds for the first stat of a name."""
    rows = {}
    with mounted(scratch, "floor", MANY) as point:
        rows["floor"] = looked_up(point, MANY)
    for count in options.entries:
        with mounted(scratch, "repository", count) as point:
            rows[f"catalog of {count} entries"] = looked_up(point, count)
    with mounted(scratch, "listed", 5000) as point:
        rows["entry in memory"] = looked_up(point, 5000)
    disk = scratch / "disk"
    disk.mkdir()
    for number in range(5000):
        (disk / name_of(number)).touch()
    rows["ext4, in its memory"] = client("look_ups", disk, 5000)
    return rows


def looked_up(point, count):
    """With the server's share: the time it ran, whatever else the machine was doing."""
    before = running_s(point)
    row = client("look_ups", point / "d", count)
    looked = min(count, MANY)
    return {**row, "server ran, µs": (running_s(point) - before) / looked * 1e6}


def opening(scratch, _options):
    """By way of opening: small files in microseconds each, a big one in GB/s."""
    disk = scratch / "files"
    disk.mkdir()
    random.seed(1)
    (disk / "big").write_bytes(random.randbytes(1 << 20) * (BIG_BYTES >> 20))
    for number in range(SMALL):
        (disk / name_of(number)).write_bytes(random.randbytes(SMALL_BYTES))
    rows = {}
    for way in OPENINGS:
        with mounted(scratch, "files", way) as point:
            rows[way] = client("opening", point, SMALL)
    rows["ext4"] = client("opening", disk, SMALL)
    return rows


def crowd(scratch, _options):
    """Seconds for 1 and for 64 processes that each read all small files."""
    if not (scratch / "files").exists():
        opening(scratch, _options)
    rows = {}
    with mounted(scratch, "files", "no-open") as point:
        rows["no-open"] = crowds(point)
    rows["ext4"] = crowds(scratch / "files")
    return rows


def crowds(folder):
    return {f"{count} at once, s": client("crowd", folder, count) for count in (1, 64)}


MEASURES = {"look-ups": look_ups, "opening": opening, "crowd": crowd}


# The servers


class mounted:  # noqa: N801  # reads as a verb
    """A mount served by a process of its own."""

    def __init__(self, scratch, kind, what):
        self.point = scratch / "mnt"
        self.point.mkdir(exist_ok=True)
        arguments = (sys.executable, __file__, "--serve", kind, str(what), scratch, self.point)
        self.server = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        assert self.server.stdout.readline() == "ready\n"
        SERVERS[self.point] = self.server.pid
        return self.point

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.point], check=False)
        self.server.kill()
        self.server.wait()
        self.server.stdout.close()


SERVERS = {}


def running_s(point):
    tasks = Path(f"/proc/{SERVERS[point]}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def serve(kind, what, scratch, point):
    if kind == "floor":
        serve_floor(int(what), point)
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from attack.fs_reader.forge import SHA1, CatalogMaker, Client, Forge, directory, entry  # noqa: PLC0415
    from cernvm.fs.cache import DiskCache  # noqa: PLC0415
    from cernvm.fs.format.compress import Compression  # noqa: PLC0415
    from cernvm.fs.fuse import KernelSettings, Session, Validity, attach  # noqa: PLC0415
    from cernvm.fs.mount.view_operations import ViewOperations  # noqa: PLC0415

    forge = Forge()
    entries = {}
    if kind == "files":
        for path in (scratch / "files").iterdir():
            content = path.read_bytes()
            digest = forge.store(content, stored=content)
            entries[b"/" + path.name.encode()] = entry(
                path.name.encode(), size=len(content), digest=digest, compression=Compression.NONE
            )
    else:
        entries[b"/d"] = directory(b"d")
        for number in range(int(what)):
            name = name_of(number).encode()
            entries[b"/d/" + name] = entry(name, size=number, digest=SHA1.digest(name))
    forge.publish(CatalogMaker(b"", entries))
    reader = Client(forge.documents)
    reader.cache = DiskCache(scratch / "cache", quota_bytes=1 << 33)
    view = reader.mount()
    if kind == "files":  # into the cache
        for path in entries:
            inode = reader.inode(view, path)
            view.read(inode, 0, 1, reader.deadline())
            view.forget(inode, 1)
    if kind == "listed":
        folder = reader.inode(view, b"/d")
        view.listing(folder, 0, reader.deadline())
    del entries
    forge.documents.clear()
    gc.collect()
    gc.freeze()  # these two as `cvm mount` does
    gc.set_threshold(50_000, 20, 100)
    opening_of = what if kind == "files" else "auto"
    Session(
        attach(Path(point), source="bench.test"),
        ViewOperations(view),
        validity=Validity(86400, 86400, 86400),
        settings=KernelSettings(opening=opening_of),
    ).serve(ready=lambda: print("ready", flush=True))


def serve_floor(count, point):
    """Answers LOOKUP, and INIT, from a dictionary: the least that Python can do."""
    sys.path.insert(0, str(ROOT / "src"))
    from cernvm.fs.fuse import KernelSettings, attach, negotiate, protocol  # noqa: PLC0415

    request_head, answer_head = struct.Struct("=IIQQIIIHH"), struct.Struct("=IiQ")
    entry = struct.Struct("=QQQQII6Q10I")
    names = {name_of(number).encode(): number + 3 for number in range(count)}
    names[b"d"] = 2
    device = attach(Path(point), source="bench.test")
    while message := next_message(device):
        _, opcode, number, inode, *_ = request_head.unpack_from(message)
        if opcode == protocol.Opcode.INIT:
            agreed = negotiate.agree(protocol.parse_init(message[40:]), KernelSettings())
            body = protocol.pack_init(agreed)
            print("ready", flush=True)
        elif opcode in (protocol.Opcode.LOOKUP, protocol.Opcode.GETATTR):
            child = names[message[40:-1]] if opcode == protocol.Opcode.LOOKUP else inode
            mode = 0o40755 if child < 3 else 0o100644
            words = (child, 9, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
            body = entry.pack(child, 0, 9999, 9999, 0, 0, *words)
            if opcode == protocol.Opcode.GETATTR:
                body = struct.pack("=QII", 9999, 0, 0) + body[40:]
        elif opcode in (protocol.Opcode.FORGET, protocol.Opcode.BATCH_FORGET):
            continue
        else:
            os.write(device, answer_head.pack(16, -38, number))
            continue
        os.write(device, answer_head.pack(16 + len(body), 0, number) + body)


def next_message(device):
    try:
        return os.read(device, 135_168)
    except OSError:
        return b""  # unmounted


# The client


def client(verb, folder, count):
    """Figures from a process of its own, whose accesses are the first of all on a fresh mount."""
    finished = subprocess.run(
        [sys.executable, __file__, "--client", verb, folder, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(finished.stdout)


def client_look_ups(folder, count):
    os.chdir(folder)
    names = [name_of(number) for number in range(count)]
    random.seed(2)
    random.shuffle(names)
    return {"first, µs": each(os.stat, names[:MANY]), "again, µs": each(os.stat, names[:MANY])}


def client_opening(folder, count):
    os.chdir(folder)
    names = [name_of(number) for number in range(count)]
    figures = {"small, first, µs": each(read_small, names)}
    figures["again, µs"] = min(each(read_small, names) for _ in range(3))
    first = gigabytes_per_s(read_sequentially)
    figures["big, first, GB/s"] = first
    figures["again, GB/s"] = max(gigabytes_per_s(read_sequentially) for _ in range(3))
    figures["mapped, GB/s"] = max(gigabytes_per_s(touch_pages) for _ in range(2))
    descriptor = os.open("big", os.O_RDONLY)
    random.seed(3)
    places = [random.randrange(BIG_BYTES >> 12) << 12 for _ in range(10_000)]
    figures["4k random, µs"] = each(lambda place: os.pread(descriptor, 4096, place), places)
    os.close(descriptor)
    names = ["big"] * 2000
    figures["open big, µs"] = each(lambda name: os.close(os.open(name, os.O_RDONLY)), names)
    return figures


def client_crowd(folder, count):
    os.chdir(folder)
    names = [name_of(number) for number in range(SMALL)]
    begin = time.perf_counter()
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            for name in names:
                read_small(name)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    return time.perf_counter() - begin


def each(action, things):
    """Microseconds for one."""
    parts = []
    for start in range(0, len(things), PART):
        part = things[start : start + PART]
        begin = time.perf_counter()
        for thing in part:
            action(thing)
        parts.append((time.perf_counter() - begin) / len(part) * 1e6)
    return statistics.median(parts)


def read_small(name):
    descriptor = os.open(name, os.O_RDONLY)
    os.read(descriptor, 2 * SMALL_BYTES)
    os.close(descriptor)


def read_sequentially(descriptor):
    buffer = bytearray(1 << 20)
    while os.readv(descriptor, [buffer]):
        pass


def touch_pages(descriptor):
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapped:
        for place in range(0, BIG_BYTES, mmap.PAGESIZE):
            mapped[place]


def gigabytes_per_s(action):
    descriptor = os.open("big", os.O_RDONLY)
    begin = time.perf_counter()
    action(descriptor)
    elapsed = time.perf_counter() - begin
    os.close(descriptor)
    return BIG_BYTES / elapsed / 1e9


def name_of(number):
    return f"f{number:07}"


CLIENTS = {"look_ups": client_look_ups, "opening": client_opening, "crowd": client_crowd}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        print(json.dumps(CLIENTS[sys.argv[2]](sys.argv[3], int(sys.argv[4]))))
    elif sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:4], *map(Path, sys.argv[4:6]))
    else:
        main()
