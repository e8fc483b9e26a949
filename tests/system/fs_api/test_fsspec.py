"""What reads through fsspec reads repositories, in any process."""

import asyncio
import hashlib
import json
import os
import pickle
import stat
import subprocess
import sys

import fsspec
import numpy as np
import pandas as pd
import pytest
import uproot
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

from cernvm.fs.api.fsspec_files import CvmfsFileSystem
from system.published import published

NAME = "vectors.cernvm.test"


@pytest.fixture(autouse=True)
def closed():
    """No test leaves a repository open."""
    yield
    for instance in list(CvmfsFileSystem._cache.values()):
        instance.close()
    CvmfsFileSystem.clear_instance_cache()


@pytest.fixture
def options(vectors, tmp_path):
    return {
        "servers": vectors.url,
        "public_keys": [str(vectors.key)],
        "cache": str(tmp_path / "cache"),
    }


@pytest.fixture
def files(options):
    return fsspec.filesystem("cvmfs", **options)


def expected(served):
    with served.listing.open(encoding="utf-8") as lines:
        return {row["path"]: row for row in map(json.loads, lines)}


def digest(data):
    return hashlib.sha256(data).hexdigest()


def test_the_protocol_is_known_wherever_this_package_is_installed():
    assert fsspec.get_filesystem_class("cvmfs") is CvmfsFileSystem


def test_find_meets_every_file_and_info_says_what_it_is(files, vectors):
    found = files.find(NAME, detail=True, withdirs=False)

    rows = expected(vectors)
    wanted = {
        f"{NAME}{path}" for path, row in rows.items() if not stat.S_ISDIR(int(row["mode"], 8))
    }
    assert set(found) == wanted
    for path, info in found.items():
        row = rows[path.removeprefix(NAME)]
        assert files.info(path)["islink"] == info["islink"]
        if info["type"] == "file":
            assert (info["size"], info["mode"]) == (row["size"], int(row["mode"], 8))


def test_the_ways_to_read_give_the_same_bytes(files, options, vectors):
    path = f"cvmfs://{NAME}/data/random-200k"
    wanted = expected(vectors)["/data/random-200k"]["sha256"]

    with fsspec.open(path, **options) as file:
        assert digest(file.read()) == wanted
    whole = files.cat(path)
    assert digest(whole) == wanted
    assert files.cat_file(path, 10, 20) == whole[10:20]
    assert files.cat_file(path, -10) == whole[-10:]
    assert files.read_block(path, 100, 50) == whole[100:150]
    ranges = files.cat_ranges([path, path, path + "-absent"], [0, 5, 0], [5, None, 1])
    assert ranges[:2] == [whole[:5], whole[5:]]
    assert isinstance(ranges[2], FileNotFoundError)
    assert files.head(path, 7) == whole[:7]


def test_glob_walk_exists_and_tree_copies_work(files, tmp_path):
    assert files.glob(f"{NAME}/data/*4M") == [f"{NAME}/data/just-4M"]
    assert files.glob(f"cvmfs://{NAME}/misc/**/file*.txt") == [
        f"{NAME}/misc/dir with space/file with space.txt", f"{NAME}/misc/nested/deep/file.txt",
    ]  # fmt: skip
    assert files.isdir(NAME)
    assert files.isfile(f"{NAME}/misc/symlink-rel")
    assert not files.exists(f"{NAME}/absent")
    assert files.ls(f"{NAME}/data", detail=False)[0] == f"{NAME}/data/just-4M"
    files.get(f"{NAME}/data", str(tmp_path / "data"), recursive=True)
    assert (tmp_path / "data/random-200k").stat().st_size == 200_000


def test_writing_and_what_is_not_there_are_refused(files):
    with pytest.raises(OSError, match="only read"):
        files.open(f"{NAME}/new-file", "wb")
    with pytest.raises(OSError, match="only read"):
        files.rm(f"{NAME}/changed")
    with pytest.raises(FileNotFoundError):
        files.open(f"{NAME}/absent")
    with pytest.raises(IsADirectoryError):
        files.cat_file(f"{NAME}/data")
    with pytest.raises(FileNotFoundError, match="name a repository"):
        files.ls("cvmfs://")


def test_a_held_revision_is_an_option(files, options):
    old = fsspec.filesystem("cvmfs", **options, tag="first")

    assert files.exists(f"{NAME}/changed")
    assert not old.exists(f"{NAME}/changed")


def test_it_reads_in_a_fork_as_it_does_here(files, vectors):
    files.cat(f"{NAME}/changed")
    mine, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(theirs, digest(files.cat(f"{NAME}/data/just-4M")).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with open(mine) as answer:
        assert answer.read() == expected(vectors)["/data/just-4M"]["sha256"]
    os.waitpid(child, 0)
    assert files.cat(f"{NAME}/changed") == b"revision 3\n"


def test_it_reads_in_another_process_that_was_sent_a_pickle(files):
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).cat(sys.argv[1]))"
    ended = subprocess.run(
        [sys.executable, "-c", script, f"{NAME}/changed"],
        input=pickle.dumps(files), capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    assert ended.stdout == b"b'revision 3\\n'\n"


def test_a_pickle_is_the_same_file_system(files):
    again = pickle.loads(pickle.dumps(files))

    assert again == files
    assert again.cat(f"{NAME}/changed") == b"revision 3\n"


def test_it_reads_beside_an_event_loop(files):
    async def several():
        wrapped = AsyncFileSystemWrapper(files, asynchronous=True)
        paths = [f"{NAME}/data/random-200k", f"{NAME}/changed"]
        return await asyncio.gather(*(wrapped._cat_file(path) for path in paths))

    first, second = asyncio.run(several())
    assert (len(first), second) == (200_000, b"revision 3\n")


DASK = """
import sys, dask.bag
if __name__ == "__main__":
    servers, key, cache = sys.argv[1:]
    where = {"servers": servers, "public_keys": [key], "cache": cache}
    lines = dask.bag.read_text("cvmfs://data.cernvm.test/parts/*.txt", storage_options=where)
    print(lines.npartitions, lines.map(int).sum().compute(scheduler="processes", num_workers=2))
"""


def test_uproot_numpy_pandas_and_dask_read_a_repository_made_here(cvm, home, tmp_path):
    tree = tmp_path / "tree"
    (tree / "parts").mkdir(parents=True)
    energies = np.arange(20_000) / 7
    with uproot.recreate(tree / "events.root") as file:
        file["events"] = {"energy": energies}
    np.save(tree / "energies.npy", energies)
    pd.DataFrame({"energy": energies}).to_csv(tree / "energies.csv")
    for part in range(3):
        (tree / f"parts/{part}.txt").write_text("".join(f"{n}\n" for n in range(1000)))
    name = "data.cernvm.test"
    with published(cvm, home, name, tree) as url:
        options = {
            "servers": f"{url}/cvmfs/@fqrn@",
            "public_keys": [str(home.keys / f"{name}.pub")],
            "cache": str(tmp_path / "cache"),
        }
        with uproot.open(f"cvmfs://{name}/events.root:events", **options) as events:
            assert (events["energy"].array(library="np") == energies).all()
        with fsspec.open(f"cvmfs://{name}/energies.npy", **options) as file:
            assert (np.load(file) == energies).all()
        table = pd.read_csv(f"cvmfs://{name}/energies.csv", storage_options=options)
        assert np.allclose(table.energy, energies)
        script = tmp_path / "script.py"
        script.write_text(DASK)
        words = (options["servers"], *options["public_keys"], options["cache"])
        ended = subprocess.run(
            [sys.executable, script, *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.stdout == f"3 {3 * sum(range(1000))}\n", ended.stderr
        for instance in list(CvmfsFileSystem._cache.values()):
            instance.close()
