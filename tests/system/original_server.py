"""The original's server side, driven without its service: publish, ingest, replicate, check and collect.

Needs root and CVMFS_ORIGINAL, a folder with bin/cvmfs2, bin/cvmfs_swissknife and lib/. The repository's keys and its
first revision are made by `cvm repo create`; every later revision is the original's own.
"""

import hashlib
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

TOOL = "bin/cvmfs_swissknife"


class OriginalServer:
    """One repository that the original publishes to. Shape: `url` is where a web server exports `storage`."""

    def __init__(self, folder, *, name, work, storage, keys, url):
        self.folder, self.name, self.work, self.storage, self.keys, self.url = (
            Path(folder), name, Path(work), Path(storage), Path(keys), url,
        )  # fmt: skip
        lib = str(self.folder / "lib")
        self.environment = {**os.environ, "LD_LIBRARY_PATH": lib, "CVMFS_LIBRARY_PATH": lib}
        for part in ("rdonly", "scratch", "union", "ofs", "tmp"):
            (self.work / part).mkdir(parents=True, exist_ok=True)
        for number in range(256):
            (self.storage / f"data/{number:02x}").mkdir(parents=True, exist_ok=True)
        (self.storage / "data/txn").mkdir(exist_ok=True)
        self.keep_reflog_digest()
        # it insists on a place for its statistics
        self.spool = Path("/var/spool/cvmfs") / name
        self.spool.mkdir(parents=True, exist_ok=True)

    def close(self):
        shutil.rmtree(self.spool, ignore_errors=True)

    @property
    def spooler(self):
        return f"local,{self.storage}/data/txn,{self.storage}"

    @property
    def public_key(self):
        return self.keys / f"{self.name}.pub"

    def knife(self, *words):
        done = subprocess.run(
            [self.folder / TOOL, *map(str, words)],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"cvmfs_swissknife {words[0]}: {done.stdout[-2000:]}")
        return done.stdout

    def manifest(self):
        lines = (
            (self.storage / ".cvmfspublished").read_bytes().split(b"\n--\n")[0].decode().split("\n")
        )
        return {line[0]: line[1:] for line in lines if line}

    def keep_reflog_digest(self):
        """What the original believes of the reflog is kept beside it; after its own collection a manifest may lag."""
        _, tag, name = self.manifest()["C"].partition("-")
        data = (self.storage / ".cvmfsreflog").read_bytes()
        digest = {
            "": lambda: hashlib.sha1(data).hexdigest(),
            "rmd160": lambda: hashlib.new("ripemd160", data).hexdigest(),
            "shake128": lambda: hashlib.shake_128(data).hexdigest(20),
        }[name]()
        (self.work / "reflog.chksum").write_text(digest + tag + name)

    @contextmanager
    def transaction(self, change):
        """The union folder after `change(folder)`; what is below is the last revision, by the original's client."""
        cache = self.work / "cache"
        cache.mkdir(exist_ok=True)
        config = self.work / "client.conf"
        config.write_text(
            f"CVMFS_SERVER_URL={self.url}\nCVMFS_HTTP_PROXY=DIRECT\nCVMFS_PUBLIC_KEY={self.public_key}\n"
            f"CVMFS_CACHE_BASE={cache}\nCVMFS_RELOAD_SOCKETS={cache}\nCVMFS_QUOTA_LIMIT=4000\n"
            "CVMFS_SHARED_CACHE=no\nCVMFS_CLIENT_PROFILE=\nCVMFS_KCACHE_TIMEOUT=60\n"
            f"CVMFS_ROOT_HASH={self.manifest()['C']}\n"
        )
        rdonly, upper, union = self.work / "rdonly", self.work / "scratch", self.work / "union"
        subprocess.run(
            [self.folder / "bin/cvmfs2", "-o", f"config={config}", self.name, rdonly],
            env=self.environment, check=True, capture_output=True,
        )  # fmt: skip
        try:
            shutil.rmtree(upper)
            shutil.rmtree(self.work / "ofs")
            upper.mkdir()
            (self.work / "ofs").mkdir()
            options = f"lowerdir={rdonly},upperdir={upper},workdir={self.work / 'ofs'}"
            subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, union], check=True)
            try:
                change(union)
                yield union
            finally:
                unmount(union)
        finally:
            unmount(rdonly)

    def publish(self, change):
        """Seconds that it took to publish a change: sync, tag, signature."""
        with self.transaction(change):
            manifest = self.work / "manifest"
            manifest.unlink(missing_ok=True)
            base = self.manifest()["C"]
            begin = time.perf_counter()
            self.knife(
                "sync", "-u", self.work / "union", "-s", self.work / "scratch", "-c", self.work / "rdonly",
                "-t", self.work / "tmp", "-b", base, "-r", self.spooler, "-w", self.url, "-o", manifest,
                "-e", "sha1", "-Z", "default", "-N", self.name, "-K", self.public_key, "-f", "overlayfs",
                "-p", "-l", 4194304, "-a", 8388608, "-h", 16777216, "-k",
            )  # fmt: skip
            self.tag_and_sign(manifest)
            return time.perf_counter() - begin

    def ingest(self, tar, at):
        """Seconds that it took to put a tar below a path."""
        manifest = self.work / "manifest"
        manifest.unlink(missing_ok=True)
        with self.transaction(lambda _folder: None):
            begin = time.perf_counter()
            self.knife(
                "ingest", "-u", self.work / "union", "-c", self.work / "rdonly", "-t", self.work / "tmp",
                "-b", self.manifest()["C"], "-r", self.spooler, "-w", self.url, "-o", manifest,
                "-K", self.public_key, "-N", self.name, "-T", tar, "-B", at,
            )  # fmt: skip
            self.tag_and_sign(manifest)
            return time.perf_counter() - begin

    def tag_and_sign(self, manifest):
        self.knife(
            "tag_edit", "-r", self.spooler, "-w", self.url, "-t", self.work / "tmp", "-m", manifest,
            "-p", self.public_key, "-f", self.name, "-e", "sha1", "-x", "-a", f"t{time.time_ns()}",
        )  # fmt: skip
        self.sign(manifest)

    def sign(self, manifest):
        self.knife(
            "sign", "-c", self.keys / f"{self.name}.crt", "-k", self.keys / f"{self.name}.key",
            "-n", self.name, "-u", self.url, "-m", manifest, "-t", self.work / "tmp", "-r", self.spooler,
            "-R", self.work / "reflog.chksum", "-g",
        )  # fmt: skip

    def generic_tags(self):
        listed = self.knife(
            "tag_list", "-w", self.url, "-t", self.work / "tmp", "-p", self.public_key, "-f", self.name, "-x",
        )  # fmt: skip
        return [line.split()[0] for line in listed.splitlines() if line.startswith("t1")]

    def drop_tags(self, tags):
        manifest = self.work / "manifest"
        manifest.unlink(missing_ok=True)
        self.knife(
            "tag_edit", "-r", self.spooler, "-w", self.url, "-t", self.work / "tmp", "-m", manifest,
            "-p", self.public_key, "-f", self.name, "-e", "sha1", "-b", self.manifest()["C"], "-d", " ".join(tags),
        )  # fmt: skip
        self.sign(manifest)

    def check(self, *, data=False):
        self.knife(
            "check", "-r", self.url, "-t", self.work / "tmp", "-k", self.public_key, "-N", self.name,
            "-R", self.work / "reflog.chksum",
            *(("-c",) if data else ()),
        )  # fmt: skip

    def collect(self, *words):
        return self.knife(
            "gc", "-r", self.url, "-u", self.spooler, "-n", self.name, "-k", self.public_key,
            "-t", self.work / "tmp", "-R", self.work / "reflog.chksum", *words,
        )  # fmt: skip

    def pull(self, url, target, *, own_url, threads=4):
        """Seconds that a replica in `target` took, which is exported at `own_url`."""
        for number in range(256):
            (target / f"data/{number:02x}").mkdir(parents=True, exist_ok=True)
        (target / "data/txn").mkdir(exist_ok=True)
        begin = time.perf_counter()
        self.knife(
            "pull", "-u", url, "-m", self.name, "-r", f"local,{target}/data/txn,{target}", "-k", self.public_key,
            "-x", self.work / "tmp", "-w", own_url, "-n", threads, "-t", 30, "-a", 1,
        )  # fmt: skip
        return time.perf_counter() - begin


def unmount(point):
    for _ in range(100):
        if subprocess.run(["umount", point], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", point], check=True)
