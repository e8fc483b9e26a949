"""What publishing and replicating cost, against the original, tar and zstd, borg and restic, in one run.

Usage: python bench/fs_publish.py [--json FILE] [--runs N] [--only SCENARIO ...] [--million]

Needs root, nginx, and for what stands beside borg, restic, zstd, and CVMFS_ORIGINAL naming a folder with the
original's bin and lib. The tree is that of bench/tree.py; a far server is stood for by bench/relay.py. Every figure is
the median of --runs runs, in seconds unless its name says otherwise, the start of every program included. On a shared
machine compare columns, not days. Nothing is deleted before the end: file systems are slow for a while after it.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from http.client import HTTPConnection
from pathlib import Path

from tree import make_tree

sys.path.append(str(Path(__file__).parent.parent / "tests/system"))
from original_server import OriginalServer

NAME = "bench.cernvm.test"
CVM = str(Path(__file__).parent.parent / ".venv/bin/cvm")
SCENARIOS = ("publish", "ingest", "again", "many", "replicate", "check", "collect")
RTT_MS = 20
CHANGED_PERCENT = 1
MANY = (1_000, 10_000, 100_000)
FILES_IN_FOLDER = 100
PACKED = ("K", "F")  # the letters of packs and profiles
STORE = """
import hashlib, os, sys, deflate
folder = sys.argv[1]
for number in range(256):
    os.makedirs(f"{folder}/{number:02x}")
for name in sys.stdin.read().split("\\n"):
    with open(name, "rb") as file:
        data = deflate.zlib_compress(file.read(), 5)
    digest = hashlib.sha1(data).hexdigest()
    with open(f"{folder}/txn", "wb") as file:
        file.write(data)
    os.rename(f"{folder}/txn", f"{folder}/{digest[:2]}/{digest[2:]}")
"""
ENVIRONMENT = {
    "BORG_BASE_DIR": "/var/tmp/bench-borg",
    "BORG_PASSPHRASE": "bench",
    "RESTIC_PASSWORD": "bench",
}


def main():
    options = parse_arguments()
    work = options.work or Path(tempfile.mkdtemp(prefix="bench-publish-", dir="/var"))
    work.mkdir(exist_ok=True)
    try:
        with Bench(work.absolute(), options) as bench:
            for scenario in options.only or SCENARIOS:
                getattr(bench, scenario)()
            print(bench.table())
            if options.json:
                options.json.write_text(json.dumps(bench.report(), indent=1) + "\n")
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS)
    parser.add_argument("--million", action="store_true", help="also publish 10^6 small files")
    parser.add_argument("--work", type=Path, help="where to work; kept")
    return parser.parse_args()


class Bench:
    """The servers, the trees, and the figures that were measured."""

    def __init__(self, work, options):
        self.work = work
        self.runs = options.runs
        self.many_files = MANY + (1_000_000,) * options.million
        self.figures = {}  # (row, column) -> values
        self.processes = []
        self.numbers = iter(range(1_000_000))
        self.tree = make_tree(work.parent / "bench-tree") / "sw"
        self.files = [p for p in sorted(self.tree.rglob("*")) if p.is_file() and not p.is_symlink()]
        self.total_bytes = sum(path.stat().st_size for path in self.files)
        folder = os.environ.get("CVMFS_ORIGINAL")
        self.original = Path(folder) if folder else None

    def __enter__(self):
        self.port = self.start_nginx()
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
            process.wait(10)

    # Scenarios

    def publish(self):
        """A first publication of the tree, from the page cache."""
        row, stored = "publish the tree", "publish the tree, stored MB"
        for _ in range(self.runs):
            for column, option in (("cvm", "--no-packs"), ("cvm, packs", "--packs")):
                ours = Ours(self)
                self.note(row, column, ours.publish(self.tree, "--at", "/sw", option))
                self.note(stored, column, ours.stored_mb())
                if option == "--packs":
                    self.note(stored, "cvm, packs apart", ours.stored_mb(is_packed=True))
            if self.original:
                theirs = self.new_original()
                self.note(row, "original", theirs.publish(lambda top: copy(self.tree, top / "sw")))
                self.note(stored, "original", stored_mb(theirs.storage))
                theirs.close()
            self.note(row, "zlib 6, SHA-1, one thread", timed(self.deflate_all))
            self.note(row, "floor", timed(self.store_all))
            self.others(row, stored)
        for (what, column), values in list(self.figures.items()):
            if what == row:
                rate = self.total_bytes / 1e6 / statistics.median(values)
                self.figures[f"{row}, MB/s", column] = [rate]

    def others(self, row, stored):
        """Tools that store the same tree elsewhere, each in its usual way."""
        place = self.place()
        self.note(
            row, "tar, zstd", timed_shell(f"tar cf - -C {self.tree} . | zstd -q -T0 -o {place}")
        )
        self.note(stored, "tar, zstd", place.stat().st_size / 1e6)
        for column, make, store in (
            ("borg", "borg init -e repokey {0}", "borg create -C zlib,6 {0}::one {1}"),
            ("restic", "restic init -q -r {0}", "restic backup -q -r {0} {1}"),
        ):
            place = self.place()
            subprocess.run(
                make.format(place).split(), check=True, env=environment(), capture_output=True
            )
            self.note(row, column, timed_shell(store.format(place, self.tree)))
            self.note(stored, column, tree_mb(place))

    def ingest(self):
        """The tree as a tar, put below a path of an empty repository."""
        tar = self.work / "sw.tar"
        subprocess.run(["tar", "cf", tar, "-C", self.tree.parent, "sw"], check=True)
        row = "ingest the tree as a tar"
        for _ in range(self.runs):
            ours = Ours(self, "--no-packs")
            self.note(row, "cvm", timed(ours.cvm, "repo", "ingest", NAME, tar, "--at", "/new"))
            if self.original:
                theirs = self.new_original()
                self.note(row, "original", theirs.ingest(tar, "new"))
                theirs.close()
            target = self.place()
            target.mkdir()
            self.note(row, "tar x", timed_shell(f"tar xf {tar} -C {target}"))
        tar.unlink()

    def again(self):
        """Publications after the first one: nothing changed, then one file in a hundred."""
        tree = self.work / "changing"
        copy(self.tree, tree)
        time.sleep(2.5)  # files that were written this moment are never recognised
        changed = random.Random(1).sample(sorted(p for p in tree.rglob("*.py") if not p.is_symlink()),
                                          len(self.files) * CHANGED_PERCENT // 100)  # fmt: skip
        ours = Ours(self)
        ours.publish(tree, "--at", "/sw")
        for turn in range(self.runs):
            self.note("nothing changed", "cvm", ours.publish(tree, "--at", "/sw"))
            touch_all(changed, turn)
            self.note("1 % of the files changed", "cvm", ours.publish(tree, "--at", "/sw"))
        if self.original:
            theirs = self.new_original()
            theirs.publish(lambda top: copy(self.tree, top / "sw"))
            places = [path.relative_to(tree) for path in changed]
            for turn in range(self.runs):
                self.note("nothing changed", "original", theirs.publish(lambda _top: None))
                self.note(
                    "1 % of the files changed", "original",
                    theirs.publish(lambda top, t=turn: touch_all([top / "sw" / p for p in places], t)),
                )  # fmt: skip
            theirs.close()
        for column, make, store in (
            ("borg", "borg init -e repokey {0}", "borg create -C zlib,6 {0}::t{2} {1}"),
            ("restic", "restic init -q -r {0}", "restic backup -q -r {0} {1}"),
        ):
            place = self.place()
            subprocess.run(
                make.format(place).split(), check=True, env=environment(), capture_output=True
            )
            timed_shell(store.format(place, tree, "first"))
            for turn in range(self.runs):
                self.note(
                    "nothing changed", column, timed_shell(store.format(place, tree, f"a{turn}"))
                )
                touch_all(changed, turn)
                self.note(
                    "1 % of the files changed",
                    column,
                    timed_shell(store.format(place, tree, f"b{turn}")),
                )

    def many(self):
        """Small files, ever more of them: time and memory for one file."""
        for count in self.many_files:
            tree = self.work / f"many-{count}"
            plant_many(tree, count)
            ours = Ours(self, "--no-packs")
            took_s, memory_mb = measured(
                ours.words("repo", "publish", NAME, tree), ours.environment
            )
            self.note(f"{count} small files", "cvm", took_s)
            self.note(f"{count} small files, memory MB", "cvm", memory_mb)
            took_s, _ = measured(ours.words("repo", "publish", NAME, tree), ours.environment)
            self.note(f"{count} small files, nothing changed", "cvm", took_s)
            if self.original and count <= MANY[-1]:
                theirs = self.new_original()
                self.note(
                    f"{count} small files",
                    "original",
                    theirs.publish(lambda top, t=tree: copy(t, top / "many")),
                )
                theirs.close()

    def replicate(self):
        """A replica of the tree, new and up to date, near and far."""
        ours = Ours(self, "--no-packs")
        ours.publish(self.tree, "--at", "/sw")
        (ours.storage / ".cvmfs_master_replica").touch()
        near = f"http://127.0.0.1:{self.port}/{ours.storage.relative_to(self.work)}"
        far_port = self.start_relay(self.port)
        far = near.replace(str(self.port), str(far_port))
        objects = [
            p for p in (ours.storage / "data").rglob("*") if p.is_file() and "txn" not in p.parts
        ]
        for where, url in (("loopback", near), (f"{RTT_MS} ms", far)):
            row = f"replicate {len(objects)} objects, {where}"
            for _ in range(self.runs):
                replica = Ours(self, is_replica=True)
                self.note(row, "cvm", timed(replica.replicate, url, ours.public_key))
                self.note(
                    f"{row}, nothing new",
                    "cvm",
                    timed(replica.replicate, url, ours.public_key),
                )
                if self.original and where == "loopback":
                    self.pull_by_original(row, ours, url)
            if self.original and where != "loopback":
                self.pull_by_original(row, ours, url)
            few = objects[:: 1 if where == "loopback" else 10]
            scale = len(objects) / len(few)
            self.note(row, "one connection", scale * timed(fetch_each, url, ours.storage, few))

    def pull_by_original(self, row, ours, url):
        theirs = OriginalServer(
            self.original,
            name=NAME,
            work=self.place(),
            storage=ours.storage,
            keys=ours.keys,
            url=url,
        )
        target = self.place()
        own = f"http://127.0.0.1:{self.port}/{target.name}"
        self.note(row, "original", theirs.pull(url, target, own_url=own))
        self.note(f"{row}, nothing new", "original", theirs.pull(url, target, own_url=own))

    def check(self):
        """The tree's repository, checked: its structure, then every byte."""
        ours = Ours(self, "--no-packs")
        ours.publish(self.tree, "--at", "/sw")
        theirs = self.original and OriginalServer(
            self.original, name=NAME, work=self.place(), storage=ours.storage, keys=ours.keys,
            url=f"http://127.0.0.1:{self.port}/{ours.storage.relative_to(self.work)}",
        )  # fmt: skip
        for _ in range(self.runs):
            self.note("check that all is there", "cvm", timed(ours.cvm, "repo", "check", NAME))
            self.note("check every byte", "cvm", timed(ours.cvm, "repo", "check", NAME, "--data"))
            if theirs:
                self.note("check that all is there", "original", timed(theirs.check, data=True))

    def collect(self):
        """Three revisions of the tree; what only the first one has, a tenth of it, is garbage."""
        for _ in range(self.runs):
            tree = self.place()
            copy(self.tree, tree)
            ours = Ours(self, "--no-packs")
            ours.publish(tree, "--at", "/sw", "--tag", "first")
            for turn in range(2):
                shrink(tree, turn)
                ours.publish(tree, "--at", "/sw", "--tag", f"then-{turn}")
            ours.cvm("repo", "tag", NAME, "remove", "first")
            took_s = timed(ours.cvm, "repo", "gc", NAME, "--keep", "0", "--keep-days", "0")
            self.note("collect a tenth", "cvm", took_s)
            if self.original:
                theirs = self.new_original()
                theirs.publish(lambda top: copy(self.tree, top / "sw"))
                theirs.drop_tags(theirs.generic_tags())
                for turn in range(2):
                    theirs.publish(lambda top, t=turn: shrink(top / "sw", t))
                self.note("collect a tenth", "original", timed(theirs.collect, "-h", "0"))
                theirs.close()

    # What is measured

    def place(self):
        return self.work / f"place-{next(self.numbers)}"

    def new_original(self):
        made = Ours(self)
        return OriginalServer(
            self.original, name=NAME, work=made.folder / "spool", storage=made.storage, keys=made.keys,
            url=f"http://127.0.0.1:{self.port}/{made.storage.relative_to(self.work)}",
        )  # fmt: skip

    def deflate_all(self):
        for path in self.files:
            hashlib.sha1(zlib.compress(path.read_bytes())).digest()

    def store_all(self):
        """What cannot be saved: every file read, deflated, named and written, by a process on each CPU."""
        place, parts = self.place(), os.cpu_count()
        workers = []
        for part in range(parts):
            words = [sys.executable, "-c", STORE, str(place / str(part))]
            worker = subprocess.Popen(words, stdin=subprocess.PIPE, text=True)
            worker.stdin.write("\n".join(map(str, self.files[part::parts])))
            worker.stdin.close()
            workers.append(worker)
        codes = [worker.wait() for worker in workers]
        if any(codes):
            raise SystemExit("a worker of the floor failed")

    def note(self, row, column, value):
        self.figures.setdefault((row, column), []).append(value)
        print(f"{row:44} {column:26} {value:9.3f}", file=sys.stderr, flush=True)

    def start_nginx(self):
        port, folder = free_port(), self.work / "nginx"
        folder.mkdir(exist_ok=True)
        (folder / "conf").write_text(
            f"""daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;
            worker_processes 1; events {{ worker_connections 512; }}
            http {{ access_log off; sendfile on; keepalive_requests 1000000; types {{ }}
              server {{ listen 127.0.0.1:{port}; root {self.work}; }}
              client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
              fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; }}"""
        )
        self.processes.append(
            subprocess.Popen(["nginx", "-c", folder / "conf", "-e", folder / "e"])
        )
        wait_for(port)
        return port

    def start_relay(self, target):
        relay = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "relay.py", str(target), "--delay-ms", str(RTT_MS / 2)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.processes.append(relay)
        return int(relay.stdout.readline())

    # Results

    def report(self):
        return {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[2]},
            "tree": {"files": len(self.files), "bytes": self.total_bytes},
            "figures": [
                {"what": row, "with": column, "median": statistics.median(values), "values": values}
                for (row, column), values in self.figures.items()
            ],
        }  # fmt: skip

    def table(self):
        rows = list(dict.fromkeys(row for row, _ in self.figures))
        columns = list(dict.fromkeys(column for _, column in self.figures))
        lines = [f"| seconds, median | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
        for row in rows:
            cells = [self.figures.get((row, column)) for column in columns]
            shown = [f"{statistics.median(cell):.3g}" if cell else "" for cell in cells]
            lines.append(f"| {row} | {' | '.join(shown)} |")
        return "\n".join(lines)


class Ours:
    """A home of ours with one repository, or with none yet for a replica."""

    def __init__(self, bench, packs="", *, is_replica=False):
        self.folder = bench.place()
        self.storage, self.keys = self.folder / "www", self.folder / "keys"
        self.environment = environment(CVM_HOME=str(self.folder / "home"))
        self.packs = packs
        if not is_replica:
            self.cvm("repo", "create", NAME, "--storage", self.storage, "--keys", self.keys)

    @property
    def public_key(self):
        return self.keys / f"{NAME}.pub"

    def words(self, *words):
        extra = [self.packs] if self.packs and words[1] == "publish" else []
        return [CVM, *map(str, words), *extra]

    def cvm(self, *words):
        done = subprocess.run(
            self.words(*words), env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"cvm {' '.join(map(str, words))}: {done.stderr}")

    def publish(self, tree, *words):
        return timed(self.cvm, "repo", "publish", NAME, tree, *words)

    def replicate(self, url, key):
        self.cvm("repo", "replicate", url, "--name", NAME, "--key", key, "--storage", self.storage)

    def stored_mb(self, *, is_packed=False):
        return stored_mb(self.storage, is_packed=is_packed)


def stored_mb(storage, *, is_packed=False):
    """What the store holds, packs and profiles apart from all else."""
    return (
        sum(
            path.stat().st_size
            for path in (storage / "data").rglob("*")
            if path.is_file() and (path.name[-1:] in PACKED) == is_packed
        )
        / 1e6
    )


def tree_mb(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def copy(tree, target):
    subprocess.run(["cp", "-a", tree, target], check=True)


def touch_all(paths, turn):
    """A line more in every file, another one each turn."""
    for path in paths:
        with path.open("ab") as file:
            file.write(b"# %d %d\n" % (turn, time.time_ns()))


def shrink(tree, turn):
    """Without every tenth file, others each turn."""
    for path in sorted(p for p in tree.rglob("*") if p.is_file() and not p.is_symlink())[turn::10]:
        path.unlink()


def plant_many(tree, count):
    noise = random.Random(count)
    for number in range(count):
        folder = (
            tree / f"{number // FILES_IN_FOLDER // 100:04}/{number // FILES_IN_FOLDER % 100:02}"
        )
        if number % FILES_IN_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"f{number:07}").write_bytes(noise.randbytes(200))


def fetch_each(url, storage, objects):
    """One request at a time over one connection, which is kept."""
    host, _, base = url.removeprefix("http://").partition("/")
    connection = HTTPConnection(host)
    for path in objects:
        connection.request("GET", f"/{base}/{path.relative_to(storage)}")
        connection.getresponse().read()
    connection.close()


def measured(words, env):
    """Seconds, and the most memory of any process in MB."""
    begin = time.perf_counter()
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1000


def timed(action, *arguments, **options):
    begin = time.perf_counter()
    action(*arguments, **options)
    return time.perf_counter() - begin


def timed_shell(line):
    return timed(
        subprocess.run, line, shell=True, check=True, env=environment(), stdout=subprocess.DEVNULL
    )


def environment(**more):
    return {**os.environ, **ENVIRONMENT, **more}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nothing listens on port {port}")


if __name__ == "__main__":
    main()
