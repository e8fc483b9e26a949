"""Everything that the format can say of a tree, as the original reads and checks it."""

import functools
import os
import shutil
import subprocess
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from cernvm.core.digest import Algorithm
from cernvm.fs.format.compress import Compression
from cernvm.fs.publish.grafting import graft_of
from cernvm.fs.publish.grafts import format_graft
from cernvm.fs.publish.metainfo import publish_metainfo
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.settings import Settings
from cernvm.fs.publish.sink import BranchSink
from system.fs.publish.conftest import NAME


class RangeHandler(SimpleHTTPRequestHandler):
    """Answers for whole files and for one range of bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        wanted = self.headers.get("Range", "").removeprefix("bytes=")
        try:
            with open(self.translate_path(self.path), "rb") as file:
                data = file.read()
        except OSError:
            self.send_error(404)
            return
        if wanted:
            first, last = wanted.split("-")
            part = data[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {wanted}/{len(data)}")
        else:
            part = data
            self.send_response(200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


def contents(point):
    """Every file's bytes and every link's target below a folder."""
    found = {}
    for place, _, files in os.walk(os.fsencode(point)):
        for name in files:
            path = place + b"/" + name
            short = path[len(os.fsencode(point)) :]
            if os.path.islink(path):
                found[short] = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[short] = file.read()
    return found


@pytest.mark.parametrize(
    ("algorithm", "compression", "settings"),
    [
        (Algorithm.SHA1, Compression.ZLIB, Settings(xattrs=False, mtime_ns=False, volatile=True)),
        (
            Algorithm.SHAKE128,
            Compression.NONE,
            Settings(
                legacy_bulk_hash=True,
                chunk_least_bytes=1 << 20,
                chunk_mean_bytes=2 << 20,
                chunk_most_bytes=4 << 20,
            ),
        ),
        (Algorithm.RMD160, Compression.ZLIB, Settings(chunking=False, ttl_s=99, gc=False)),
    ],
)
def test_the_original_reads_and_accepts_other_settings(share, algorithm, compression, settings):
    shared = share(algorithm=algorithm, compression=compression, settings=settings)
    shared.publish()
    publish_metainfo(shared.repository, shared.store, {"administrator": "Ada"})

    assert shared.check() == ""
    assert shared.mounted(contents) == contents(shared.tree)


def test_the_original_descends_into_the_catalogs_of_a_dirtab(share):
    shared = share()
    (shared.tree / ".cvmfsdirtab").write_bytes(b"/many/*\n! */d3\n")
    published = shared.publish()

    assert published.catalogs == 1 + 1 + 6
    assert shared.check() == ""
    seen = shared.mounted(contents)
    assert {path for path in seen if path.endswith(b"/.cvmfscatalog")} - {
        b"/nested/.cvmfscatalog"
    } == {b"/many/d%d/.cvmfscatalog" % number for number in range(7) if number != 3}


def test_the_original_fetches_external_and_grafted_files_by_path(share, tmp_path):
    shared = share(settings=Settings(external=True))
    outside = tmp_path / "outside"
    for name in (
        "fifo",
        "odd \udcff\n",
    ):  # the one cannot be copied, the other stands in no URL of theirs
        (shared.tree / name).unlink()
    shutil.copytree(shared.tree, outside, symlinks=True)
    graft = graft_of(shared.repository, outside / "big", Compression.NONE)
    (shared.tree / "big").write_bytes(b"")
    (shared.tree / ".cvmfsgraft-big").write_bytes(format_graft(graft))
    shared.publish()

    handler = functools.partial(RangeHandler, directory=str(outside))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        cache = shared.base / "cache-external"
        settings = f"CVMFS_EXTERNAL_URL=http://127.0.0.1:{server.server_port}\nCVMFS_EXTERNAL_HTTP_PROXY=DIRECT\n"
        shared.original.mount(
            shared.point, url=shared.url, key=shared.key, cache=cache, name=NAME, settings=settings
        )
        try:
            assert contents(shared.point) == contents(outside)
        finally:
            shared.original.unmount(shared.point)
            server.shutdown()
            thread.join(10)
    assert subprocess.run(["mountpoint", "-q", shared.point], check=False).returncode != 0


def test_the_original_accepts_a_branch_and_mounts_its_tag(share):
    shared = share()
    shared.publish()
    before = contents(shared.tree)
    (shared.tree / "new").write_bytes(b"on the branch")
    sink = BranchSink(shared.repository, shared.store, "next")
    publish_tree(
        shared.repository, shared.store, shared.tree, options=Options(tag="next-1"), sink=sink
    )

    assert shared.check() == ""
    assert shared.mounted(contents) == before
    cache = shared.base / "cache-branch"
    shared.original.mount(
        shared.point, url=shared.url, key=shared.key, cache=cache, name=NAME,
        settings="CVMFS_REPOSITORY_TAG=next-1\n",
    )  # fmt: skip
    try:
        assert contents(shared.point) == contents(shared.tree)
    finally:
        shared.original.unmount(shared.point)
