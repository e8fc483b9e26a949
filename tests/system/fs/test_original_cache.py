"""The original client's cache is read as an alien cache, and ours is filled so that the original reads it."""

import os
import subprocess

import pytest

from cernvm.fs.api import OpenRepository
from cernvm.fs.cache import CacheSettings
from cernvm.fs.client import ClientSettings
from cernvm.fs.reader import ReaderSettings
from cernvm.net import NetSettings

from .conftest import NAME


def opened(both, folder, alien, **options):
    return OpenRepository(
        ClientSettings(
            NAME,
            NetSettings(both.url, "DIRECT"),
            CacheSettings(folder, alien=alien, **options),
            ReaderSettings((both.key,)),
        )
    )


def files_below(tree):
    found = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path.relative_to(tree) for path in found if path.name != ".cvmfscatalog"]


def read(repository, path):
    file = repository.files.open(os.fsencode(path))
    data = b""
    while more := file.read(len(data), 4 << 20):
        data += more
    file.close()
    return data


@pytest.fixture(scope="module")
def filled(both):
    """The original's cache after it has read everything."""
    subprocess.run(
        f"find {both.theirs} -type f -print0 | xargs -0 cat >/dev/null",
        shell=True, check=True, capture_output=True,
    )  # fmt: skip
    return both.base / "cache-original" / NAME


def test_what_the_original_has_cached_is_not_fetched_again(both, filled, tmp_path):
    with opened(both, tmp_path / "cache", filled) as repository:
        for path in files_below(both.tree):
            assert read(repository, path) == (both.tree / path).read_bytes()
        traffic = repository.client.fetcher.traffic

    assert traffic.requests <= 5, "manifest, whitelist, certificate"


def test_an_alien_cache_that_we_fill_is_read_by_the_original(both, original, tmp_path):
    alien = tmp_path / "alien"
    alien.mkdir(mode=0o770)
    with opened(both, tmp_path / "cache", alien, kind="none", alien_writes=True) as repository:
        for path in files_below(both.tree):
            read(repository, path)
    listed = {path.relative_to(alien) for path in alien.glob("??/*")}

    point, cache = tmp_path / "theirs", tmp_path / "cache-original"
    point.mkdir()
    cache.mkdir()
    config = cache / "config"
    config.write_text(
        f"CVMFS_SERVER_URL={both.url}\nCVMFS_HTTP_PROXY=DIRECT\nCVMFS_PUBLIC_KEY={both.key}\n"
        f"CVMFS_CACHE_BASE={cache}\nCVMFS_RELOAD_SOCKETS={cache}\nCVMFS_ALIEN_CACHE={alien}\n"
        "CVMFS_QUOTA_LIMIT=-1\nCVMFS_SHARED_CACHE=no\nCVMFS_CLIENT_PROFILE=\nCVMFS_MAX_RETRIES=0\n"
    )
    subprocess.run(
        [original.folder / "bin/cvmfs2", "-o", f"config={config}", NAME, point],
        env=original.environment, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    try:
        for path in files_below(both.tree):
            assert (point / path).read_bytes() == (both.tree / path).read_bytes()
        again = {path.relative_to(alien) for path in alien.glob("??/*")}
    finally:
        original.unmount(point)

    assert len(again - listed) <= 2, "certificate and the like: no content was fetched again"
