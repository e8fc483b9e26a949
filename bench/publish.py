"""How fast publishing is: files and bytes a second, against one thread of zlib and SHA-1 over the same tree.

Usage: python bench/publish.py TREE
"""

import hashlib
import sys
import tempfile
import time
import zlib
from pathlib import Path

from cernvm.core.home import Home
from cernvm.fs.format.chunker import ChunkSizes, CutFinder
from cernvm.fs.publish.creating import create_repository
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.repository import new_repository
from cernvm.fs.store.local import LocalStore


def main(tree):
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    total = sum(path.stat().st_size for path in files)  # also warms the page cache
    print(f"{len(files)} files, {total / 1e6:.0f} MB")
    single_s = timed("zlib 6 and SHA-1, one thread", total, lambda: deflate_all(files))
    with tempfile.TemporaryDirectory() as folder:
        repository = new_repository(Home(Path(folder)), "bench.cernvm.test")
        create_repository(Home(Path(folder)), repository)
        store = LocalStore(repository.storage)
        first_s = timed("publish", total, lambda: publish_tree(repository, store, tree))
        again_s = timed(
            "publish again, unchanged", total, lambda: publish_tree(repository, store, tree)
        )
        one = Options(threads=1)
        repository.index.unlink()
        timed(
            "publish again, no index",
            total,
            lambda: publish_tree(repository, store, tree, options=one),
        )
    print(
        f"publish: {len(files) / first_s:.0f} files/s, {single_s / first_s:.1f} x one thread of zlib"
    )
    print(f"unchanged: {len(files) / again_s:.0f} files/s")
    data = hashlib.shake_128(b"seed").digest(64 << 20)
    timed("cut marks in random bytes", len(data), lambda: cut(data))


def deflate_all(files):
    for path in files:
        hashlib.sha1(zlib.compress(path.read_bytes(), 6)).digest()


def cut(data):
    finder = CutFinder(ChunkSizes())
    for at in range(0, len(data), 1 << 18):
        finder.feed(data[at : at + (1 << 18)])


def timed(what, size, action):
    started = time.perf_counter()
    action()
    took_s = time.perf_counter() - started
    print(f"{what:32} {took_s:7.2f} s {size / took_s / 1e6:7.0f} MB/s")
    return took_s


if __name__ == "__main__":
    main(Path(sys.argv[1]))
