"""What the file system client costs, against the original, rsync, a tarball over HTTP and ext4, in one run.

Usage: python bench/fs_client.py [--json FILE] [--runs N] [--only SCENARIO ...] [--work FOLDER]

Needs root, nginx, rsync and curl. With CVMFS_ORIGINAL naming a folder with bin/cvmfs2 and lib/ the original is measured
beside. The tree is that of bench/tree.py; far servers are stood for by bench/relay.py. Every figure is the median of
--runs runs (one run for what takes minutes), in seconds unless its name says otherwise. On a shared machine compare
columns, not days.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from tree import make_tree, numpy_command

NAME = "bench.cernvm.test"
CVM = str(Path(__file__).parent.parent / ".venv/bin/cvm")
SCENARIOS = ("loopback", "far", "narrow", "warm", "hot", "big", "crowd", "lookups")
RTT_MS = 20
MBIT = 100
BIG_MB = 200
PACKED = ("K", "F")  # the letters of packs and profiles
LOOKUP_FILES = (1_000, 10_000, 100_000)

# Stats names in a random order, each once, that the kernel does not know (any more).
LOOKUPS = """
import os, random, sys, time
folder, count, is_listed = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
names = [f"{folder}/f{n:06}" for n in random.Random(1).sample(range(1, count), min(999, count - 1))]
if is_listed:
    os.listdir(folder)
    with open("/proc/sys/vm/drop_caches", "w") as caches:
        caches.write("2")
    os.stat(folder)
begin = time.perf_counter()
for name in names:
    os.stat(name)
print((time.perf_counter() - begin) / len(names) * 1e6)
"""


def main():
    options = parse_arguments()
    work = options.work or Path(tempfile.mkdtemp(prefix="bench-fs-", dir="/var/tmp"))
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
    parser.add_argument("--million", action="store_true", help="also look up among 10^6 files")
    parser.add_argument("--work", type=Path, help="kept, so that the next run need not publish")
    return parser.parse_args()


class Bench:
    """The servers, the repository, and the figures that were measured."""

    def __init__(self, work, options):
        self.work = work
        self.runs = options.runs
        self.lookup_files = LOOKUP_FILES + (1_000_000,) * options.million
        self.figures = {}  # (row, column) -> seconds
        self.processes = []
        self.point = work / "mnt"
        self.point.mkdir(exist_ok=True)
        self.tree = make_tree(work / "tree")
        self.clients = clients(self)

    def __enter__(self):
        self.publish()
        self.port = self.start_nginx()
        self.far_port = self.start_relay(self.port, 0)
        self.narrow_port = self.start_relay(self.port, MBIT)
        self.pack_tarball()
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.point], check=False, capture_output=True)
        for process in self.processes:
            process.terminate()
            process.wait(10)

    # What is served

    def cvm(self, *words):
        environment = {**os.environ, "CVM_HOME": str(self.work / "home")}
        return subprocess.run(
            [CVM, *map(str, words)], env=environment, check=True, capture_output=True, text=True
        )

    def publish(self):
        if (self.work / "published").exists():
            return
        self.cvm(
            "repo", "create", NAME, "--storage", self.work / "www", "--keys", self.work / "keys"
        )
        self.cvm("repo", "publish", NAME, self.tree / "sw", "--at", "/sw")
        stored = sum(
            path.stat().st_size
            for path in (self.work / "www/data").rglob("*")
            if path.is_file() and path.name[-1:] not in PACKED
        )
        big, flat = self.work / "big", self.work / "flat"
        big.mkdir()
        (big / "file").write_bytes(os.urandom(BIG_MB * 1_000_000))
        for count in self.lookup_files:
            (flat / f"{count}").mkdir(parents=True)
            for number in range(count):
                (flat / f"{count}/f{number:06}").touch()
        self.cvm("repo", "publish", NAME, big, "--at", "/big")
        self.cvm("repo", "publish", NAME, flat, "--at", "/flat")
        shutil.rmtree(flat)
        self.cvm("repo", "profile", "record", NAME, "numpy", "--", *numpy_command(f"/cvmfs/{NAME}"))
        (self.work / "published").write_text(str(stored))

    @property
    def key(self):
        return self.work / f"keys/{NAME}.pub"

    def start_nginx(self):
        port, folder = free_port(), self.work / "nginx"
        folder.mkdir(exist_ok=True)
        (folder / "conf").write_text(
            f"""daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;
            worker_processes 1; events {{ worker_connections 512; }}
            http {{ access_log off; sendfile on; keepalive_requests 1000000; types {{ }}
              server {{ listen 127.0.0.1:{port}; root {self.work}/www; }}
              client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
              fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; }}"""
        )
        self.processes.append(
            subprocess.Popen(["nginx", "-c", folder / "conf", "-e", folder / "e"])
        )
        wait_for(port)
        return port

    def start_relay(self, target, mbit):
        relay = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "relay.py", str(target),
             "--delay-ms", str(RTT_MS / 2), "--mbit", str(mbit)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.processes.append(relay)
        return int(relay.stdout.readline())

    def pack_tarball(self):
        target = self.work / "www/sw.tar.gz"
        if not target.exists():
            subprocess.run(["tar", "czf", target, "-C", self.tree, "sw"], check=True)

    @property
    def stored_bytes(self):
        """What a client of the tree must fetch: every object but packs, which hold the same again."""
        return int((self.work / "published").read_text())

    # Scenarios

    def loopback(self):
        self.cold("loopback", self.port)
        self.note("read all, loopback", "tarball", lambda: self.fetch_tarball(self.port))

    def far(self):
        self.cold(f"{RTT_MS} ms", self.far_port, original_once=True)
        self.note(f"read all, {RTT_MS} ms", "tarball", lambda: self.fetch_tarball(self.far_port))
        self.note(f"read all, {RTT_MS} ms", "rsync", lambda: self.fetch_rsync(0))

    def narrow(self):
        row = f"read all, {RTT_MS} ms, {MBIT} Mbit/s"
        floor = self.stored_bytes / (MBIT * 125_000) + 4 * RTT_MS / 1000
        self.figures[row, "wire"] = [floor]
        for client in self.clients:
            runs = 1 if client.is_original else self.runs
            self.note(row, client.name, lambda c=client: self.read_cold(c, self.narrow_port), runs)
        self.note(row, "tarball", lambda: self.fetch_tarball(self.narrow_port))
        self.note(row, "rsync", lambda: self.fetch_rsync(MBIT))

    def cold(self, where, port, *, original_once=False):
        for client in self.clients:
            runs = 1 if client.is_original and original_once else self.runs
            self.note(f"mount, {where}", client.name, lambda c=client: self.mount_cold(c, port))
            self.note(
                f"import numpy, {where}", client.name, lambda c=client: self.import_cold(c, port)
            )
            self.note(
                f"read all, {where}", client.name, lambda c=client: self.read_cold(c, port), runs
            )

    def warm(self):
        for client in self.clients:
            with client.mounted(self.port):
                read_all(self.point)
                self.figures["memory after read all, MB", client.name] = [client.memory_mb()]
            for row, action in (("read all, warm", read_all), ("import numpy, warm", import_numpy)):
                self.note(row, client.name, lambda c=client, a=action: self.time_warm(c, a))
        self.note("read all, warm", "ext4", lambda: self.time_ext4(read_all))
        self.note("import numpy, warm", "ext4", lambda: self.time_ext4(import_numpy))

    def hot(self):
        rows = (
            ("read all, hot", read_all),
            ("find, hot", find),
            ("import numpy, hot", import_numpy),
        )
        for client in self.clients:
            with client.mounted(self.port):
                for row, action in rows:
                    action(self.point)
                    self.note(
                        row, client.name, lambda a=action: timed(a, self.point), 2 * self.runs
                    )
        for row, action in rows:
            action(self.tree)
            self.note(row, "ext4", lambda a=action: timed(a, self.tree), 2 * self.runs)

    def big(self):
        for client in (
            *self.clients[:1],
            Ours(self, "cvm, passthrough", "--opening", "passthrough"),
            *self.clients[2:],
        ):
            with client.mounted(self.port):
                read_big(self.point)
            self.note(
                f"{BIG_MB} MB, warm", client.name, lambda c=client: self.time_warm(c, read_big)
            )
            with client.mounted(self.port):
                self.note(f"{BIG_MB} MB, hot", client.name, lambda: timed(read_big, self.point))
        self.note(f"{BIG_MB} MB, warm", "ext4", lambda: self.time_ext4(read_big, self.work))
        self.note(f"{BIG_MB} MB, hot", "ext4", lambda: timed(read_big, self.work))

    def lookups(self):
        """Microseconds a look-up, server and program on one CPU: what another CPU's wake-up costs is not looked at."""
        for count in self.lookup_files:
            for client in self.clients:
                self.note(
                    f"look-up among {count}, from the catalog, us", client.name,
                    lambda c=client, n=count: self.time_lookups(c, n, is_listed=False),
                )  # fmt: skip
                self.note(
                    f"look-up among {count}, after a listing, us", client.name,
                    lambda c=client, n=count: self.time_lookups(c, n, is_listed=True),
                )  # fmt: skip

    def crowd(self):
        for client in self.clients:
            with client.mounted(self.port):
                read_all(self.point)
                self.note("64 imports at once, hot", client.name, lambda: timed(crowd, self.point))
        self.note("64 imports at once, hot", "ext4", lambda: timed(crowd, self.tree))

    # Measuring

    def note(self, row, column, measure, runs=None):
        values = self.figures.setdefault((row, column), [])
        for _ in range(runs or self.runs):
            values.append(measure())
            print(f"{row:38} {column:12} {values[-1]:8.3f}", file=sys.stderr, flush=True)

    def mount_cold(self, client, port):
        client.forget()
        begin = time.perf_counter()
        with client.mounted(port):
            os.listdir(self.point)
            return time.perf_counter() - begin

    def import_cold(self, client, port):
        client.forget()
        with client.mounted(port):
            return timed(import_numpy, self.point)

    def read_cold(self, client, port):
        client.forget()
        with client.mounted(port):
            return timed(read_all, self.point)

    def time_lookups(self, client, count, *, is_listed):
        with pinned(), client.mounted(self.port):
            folder = self.point / f"flat/{count}"
            (folder / "f000000").stat()  # its catalog is there from now on
            words = [
                sys.executable,
                "-S",
                "-E",
                "-c",
                LOOKUPS,
                str(folder),
                str(count),
                str(is_listed),
            ]
            return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    def time_warm(self, client, action):
        with client.mounted(self.port):
            drop_page_cache()
            return timed(action, self.point)

    def time_ext4(self, action, folder=None):
        drop_page_cache()
        return timed(action, folder or self.tree)

    def fetch_tarball(self, port):
        target = self.work / "untarred"
        target.mkdir()
        begin = time.perf_counter()
        subprocess.run(
            f"curl -sf http://127.0.0.1:{port}/sw.tar.gz | tar xz -C {target}",
            shell=True,
            check=True,
        )
        took_s = time.perf_counter() - begin
        shutil.rmtree(target)
        return took_s

    def fetch_rsync(self, mbit):
        port, target = free_port(), self.work / "rsynced"
        config = self.work / "rsyncd.conf"
        config.write_text(f"[sw]\npath={self.tree}/sw\nuse chroot=no\nuid=0\ngid=0\n")
        daemon = subprocess.Popen(
            [
                "rsync",
                "--daemon",
                "--no-detach",
                f"--config={config}",
                f"--port={port}",
                "--address=127.0.0.1",
            ]
        )
        self.processes.append(daemon)
        wait_for(port)
        relay = self.start_relay(port, mbit)
        begin = time.perf_counter()
        subprocess.run(["rsync", "-az", f"rsync://127.0.0.1:{relay}/sw/", target], check=True)
        took_s = time.perf_counter() - begin
        shutil.rmtree(target)
        return took_s

    # Results

    def report(self):
        return {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[2]},
            "tree": {"files": count_files(self.tree / "sw"), "stored_bytes": self.stored_bytes},
            "figures": [
                {"what": row, "with": column, "unit": unit_of(row),
                 "median": statistics.median(values), "values": values}
                for (row, column), values in self.figures.items()
            ],
        }  # fmt: skip

    def table(self):
        rows = list(dict.fromkeys(row for row, _ in self.figures))
        columns = list(dict.fromkeys(column for _, column in self.figures))
        lines = [
            f"| seconds, median | {' | '.join(columns)} |",
            f"|---|{'---|' * len(columns)}",
        ]
        for row in rows:
            cells = [self.figures.get((row, column)) for column in columns]
            shown = [f"{statistics.median(cell):.3g}" if cell else "" for cell in cells]
            lines.append(f"| {row} | {' | '.join(shown)} |")
        return "\n".join(lines)


def clients(bench):
    """Who is measured; the first is what a user gets."""
    ours = [
        Ours(bench, "cvm"),
        Ours(bench, "cvm, unprepared", "--packs", "off", "--profiles", "off"),
    ]
    original = os.environ.get("CVMFS_ORIGINAL")
    return [*ours, Original(bench, Path(original))] if original else ours


class Ours:
    """`cvm mount`, with options."""

    is_original = False

    def __init__(self, bench, name, *options):
        self.bench = bench
        self.name = name
        self.options = options
        self.cache = bench.work / f"cache-{name.replace(', ', '-')}"

    def forget(self):
        shutil.rmtree(self.cache, ignore_errors=True)

    @contextmanager
    def mounted(self, port):
        bench = self.bench
        bench.cvm(
            "mount", NAME, bench.point, "--url", f"http://127.0.0.1:{port}", "--public-key", bench.key,
            "--cache", self.cache, *self.options,
        )  # fmt: skip
        try:
            yield
        finally:
            bench.cvm("umount", bench.point)

    def memory_mb(self):
        rows = json.loads(self.bench.cvm("mount", "--json").stdout)
        pids = [row["pid"] for row in rows if row["mountpoint"] == str(self.bench.point)]
        return sum(resident_mb(pid) for pid in pids)


class Original:
    """The original's client."""

    name = "original"
    is_original = True

    def __init__(self, bench, folder):
        self.bench = bench
        self.folder = folder
        self.cache = bench.work / "cache-original"
        lib = str(folder / "lib")
        self.environment = {**os.environ, "LD_LIBRARY_PATH": lib, "CVMFS_LIBRARY_PATH": lib}

    def forget(self):
        shutil.rmtree(self.cache, ignore_errors=True)

    @contextmanager
    def mounted(self, port):
        bench = self.bench
        self.cache.mkdir(exist_ok=True)
        config = bench.work / "original.conf"
        config.write_text(
            f"CVMFS_SERVER_URL=http://127.0.0.1:{port}\nCVMFS_HTTP_PROXY=DIRECT\n"
            f"CVMFS_PUBLIC_KEY={bench.key}\nCVMFS_CACHE_BASE={self.cache}\n"
            f"CVMFS_RELOAD_SOCKETS={self.cache}\nCVMFS_QUOTA_LIMIT=4000\nCVMFS_SHARED_CACHE=no\n"
            "CVMFS_CLIENT_PROFILE=\n"
        )
        subprocess.run(
            [self.folder / "bin/cvmfs2", "-o", f"config={config}", NAME, bench.point],
            env=self.environment, check=True, capture_output=True,
        )  # fmt: skip
        try:
            yield
        finally:
            unmount(bench.point)

    def memory_mb(self):
        pids = subprocess.run(["pgrep", "cvmfs2"], capture_output=True, text=True, check=False)
        return max((resident_mb(int(pid)) for pid in pids.stdout.split()), default=0.0)


def read_big(point):
    subprocess.run(["cat", point / "big/file"], stdout=subprocess.DEVNULL, check=True)


@contextmanager
def pinned():
    """Everything that is started meanwhile runs on one CPU."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def read_all(point):
    subprocess.run(f"tar cf - -C {point} sw | cat >/dev/null", shell=True, check=True)


def find(point):
    subprocess.run(["find", point / "sw", "-type", "f", "-size", "+1G"], check=True)


def import_numpy(point):
    subprocess.run(numpy_command(point), check=True)


def crowd(point):
    running = [subprocess.Popen(numpy_command(point)) for _ in range(64)]
    codes = [process.wait(120) for process in running]
    if any(codes):
        sys.exit("an import failed")


def timed(action, argument):
    begin = time.perf_counter()
    action(argument)
    return time.perf_counter() - begin


def drop_page_cache():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def unmount(point):
    for _ in range(50):
        if subprocess.run(["umount", point], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", point], check=True)


def resident_mb(pid):
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(lines[0].split()[1]) / 1000 if lines else 0.0


def unit_of(row):
    return next((unit for unit in ("MB", "us") if row.endswith(f", {unit}")), "s")


def count_files(folder):
    return sum(path.is_file() for path in folder.rglob("*"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


if __name__ == "__main__":
    main()
