"""A process of its own that fills a shared cache and prints the number of each object it has committed."""

import subprocess
import sys

import pytest

from cernvm.core.digest import Algorithm
from cernvm.fs.cache import ContentKey

FILL = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from cernvm.fs.cache import DiskCache
from system.fs_cache.conftest import key, data
folder, first, count, quota = Path(sys.argv[1]), *map(int, sys.argv[2:5])
cache = DiskCache(folder, quota_bytes=quota)
for number in range(first, first + count):
    content = data(number)
    if "small" in sys.argv:
        cache.put_small(key(number), content)
        print(number, flush=True)
        continue
    draft = cache.draft(key(number))
    for at in range(0, len(content), 4096):
        draft.write(content[at:at + 4096])
    draft.commit()
    print(number, flush=True)
if "hold" in sys.argv:
    for line in sys.stdin: pass
cache.close()
"""


def data(number):
    """Content that is different for each number, some 20 kB."""
    return f"object {number} ".encode() * 1500


def key(number):
    """The key of that content."""
    return ContentKey(Algorithm.SHA1.digest(data(number)))


@pytest.fixture
def fill(tmp_path):
    """Start a process that fills the cache; killed at the end if it still runs."""
    from pathlib import Path

    started = []

    def start(folder, *, first=0, count=1_000_000, quota=10**9, hold=False, small=False):
        script = FILL.format(tests=str(Path(__file__).parents[2]))
        arguments = [
            str(folder),
            str(first),
            str(count),
            str(quota),
            *["hold"] * hold,
            *["small"] * small,
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
