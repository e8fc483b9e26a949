"""`cvm cache`, and what is kept for times without a network."""

import json

import pytest

from system.published import published

NAME = "kept.cernvm.test"


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "tree"
    (tree / "sw/deep").mkdir(parents=True)
    (tree / "sw/.cvmfscatalog").touch()
    for number in range(20):
        (tree / f"sw/deep/f{number}").write_bytes(f"file {number} ".encode() * 1000)
    (tree / "sw/big").write_bytes(bytes(range(256)) * 100_000)
    (tree / "other").write_bytes(b"other")
    return tree


def test_what_is_pinned_survives_cleaning_and_is_read_without_a_network(cvm, home, tree):
    with published(cvm, home, NAME, tree):
        kept = json.loads(cvm("cache", "pin", f"{NAME}:/sw", "--json").stdout)
        cvm("fs", "cat", f"{NAME}:/other")
    cvm("cache", "clean")

    assert kept["size_bytes"] == sum(p.stat().st_size for p in tree.glob("sw/**/*") if p.is_file())
    usage = json.loads(cvm("cache", "usage", "--json").stdout)
    assert usage["kept"][f"{NAME}:/sw"]["objects"] == kept["objects"] == usage["objects"]
    url = "http://127.0.0.1:9"
    copy = tree.parent / "copy"
    cvm("fs", "cp", "-r", "--url", url, f"{NAME}:/sw", copy)
    for path in ("deep/f7", "big"):
        assert (copy / path).read_bytes() == (tree / "sw" / path).read_bytes()
    assert cvm("fs", "cat", "--url", url, f"{NAME}:/other", check=False).returncode != 0

    cvm("cache", "unpin", f"{NAME}:/sw")
    assert json.loads(cvm("cache", "clean", "--json").stdout)["size_bytes"] == 0
    assert cvm("cache", "unpin", f"{NAME}:/sw", check=False).returncode == 12


def test_a_single_file_can_be_pinned(cvm, home, tree):
    with published(cvm, home, NAME, tree):
        kept = json.loads(cvm("cache", "pin", f"{NAME}:/sw/deep/f3", "--json").stdout)

    assert kept["objects"] == 3, "the file and the two catalogs above it"


def test_damage_is_told_then_repaired(cvm, home, tree):
    with published(cvm, home, NAME, tree):
        cvm("fs", "cat", f"{NAME}:/other")
        names = [row["name"] for row in json.loads(cvm("cache", "ls", "--json").stdout)]
        files = [home.cache / name[:2] / name[2:] for name in names]
        damaged = next(file for file in files if file.read_bytes() == b"other")
        damaged.write_bytes(b"ether")

        told = cvm("cache", "check", check=False)
        assert told.returncode == 52
        assert str(damaged.relative_to(home.cache)) in told.stdout
        assert "--repair" in told.stderr
        cvm("cache", "check", "--repair")
        cvm("cache", "check")
        assert cvm("fs", "cat", f"{NAME}:/other").stdout == "other"


def test_a_cache_that_is_not_there_is_not_made(cvm, home):
    done = cvm("cache", "usage", check=False)

    assert done.returncode == 12
    assert not home.cache.exists()


def test_what_lies_in_an_alien_cache_is_read_without_a_network(cvm, home, tree, tmp_path):
    with published(cvm, home, NAME, tree):
        options = ["--alien-cache", tmp_path / "alien", "--alien-writes"]
        (tmp_path / "alien").mkdir(mode=0o770)
        cvm("fs", "cat", *options, "--cache-kind", "none", f"{NAME}:/other")
    assert b"other" in [path.read_bytes() for path in (tmp_path / "alien").glob("??/*")]
    url = "http://127.0.0.1:9"
    offline = ["--url", url, "--alien-cache", tmp_path / "alien", "--cache-kind", "memory"]

    assert cvm("fs", "cat", *offline, f"{NAME}:/other").stdout == "other"
