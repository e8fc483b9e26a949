"""Random edits in a writable repository give exactly what the same edits give in a plain folder."""

import json
import os
import shutil
import stat
import subprocess
import textwrap
from pathlib import Path

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from cernvm.fs.edit.opening import begin, run_in
from cernvm.fs.edit.publishing import publish_edits
from cernvm.fs.publish.publishing import publish_tree
from system.fs_publish.conftest import read_back

from .conftest import PYTHON, SEEN, fill

# Runs in the folder that is its first argument, whatever that is; an edit that cannot be made is left out.
EDITOR = textwrap.dedent(
    """
    import json, os, shutil, sys
    os.chdir(sys.argv[1])
    T = 1_500_000_000_000_000_000

    def settle(path, number):
        os.utime(os.path.realpath(path), ns=(T, T + number * 1_000_000_007))

    def write(path, other, number, mode="wb"):
        with open(path, mode) as file:
            file.write(b"%d" % number * (number * 40))
        settle(path, number)

    def remove(path, other, number):
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)

    def move(path, other, number):
        if os.path.isdir(path) and not os.path.islink(path):
            if (other + "/").startswith(path + "/") or os.path.lexists(other):
                return
            shutil.copytree(path, other, symlinks=True)
            shutil.rmtree(path)
        else:
            os.rename(path, other)

    def symlink(path, other, number):
        os.symlink("to" + other, path)
        os.utime(path, ns=(T, T + number), follow_symlinks=False)

    def again(path, other, number):
        remove(path, other, number)
        os.mkdir(path)
        write(path + "/c", other, number)

    EDITS = {
        "write": write,
        "append": lambda p, o, n: write(p, o, n, "ab"),
        "truncate": lambda p, o, n: (os.truncate(p, n), settle(p, n)),
        "touch": lambda p, o, n: settle(p, n),
        "chmod": lambda p, o, n: os.chmod(p, 0o700 + n),
        "remove": remove,
        "mkdir": lambda p, o, n: os.mkdir(p),
        "again": again,
        "move": move,
        "symlink": symlink,
        "link": lambda p, o, n: os.link(p, o, follow_symlinks=False),
        "fifo": lambda p, o, n: (os.mkfifo(p, 0o600), settle(p, n)),
        "mark": lambda p, o, n: write(p + "/.cvmfscatalog", o, n),
        "xattr": lambda p, o, n: os.setxattr(p, "user.n", b"%d" % n, follow_symlinks=False),
        "chown": lambda p, o, n: os.chown(p, n, n + 1, follow_symlinks=False),
    }
    for name, path, other, number in json.loads(sys.argv[2]):
        try:
            EDITS[name](path, other, number)
        except (OSError, shutil.Error):
            pass
    """
)
NAMES = [
    "hello.txt", "empty", "run", "variant", "v1", "v1/lib", "v1/lib/a.so", "v1/lib/deep", "v1/lib/deep/b", "v1/link",
    "v1/.cvmfscatalog", "v2", "v2/lib", "v2/lib/deep/b", "new", "new/x", "new/y", "v2/new", "v2/new/z", "v1/lib/n",
]  # fmt: skip
WORDS = [
    "write", "append", "truncate", "touch", "chmod", "remove", "mkdir", "again", "move", "symlink", "link", "fifo",
    "mark", "xattr", "chown",
]  # fmt: skip
EDITS = st.lists(
    st.tuples(
        st.sampled_from(WORDS), st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(0, 63)
    ),
    min_size=4,
    max_size=25,
)


def test_edits_are_those_of_a_plain_folder(bench, tmp_path, count):
    @settings(
        max_examples=count(50),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(EDITS)
    def check(edits):
        plain = tmp_path / "plain"
        shutil.rmtree(plain, ignore_errors=True)
        fill(plain)
        publish_tree(bench.repository, bench.store, plain)

        words = [PYTHON, "-c", EDITOR, SEEN, json.dumps(edits)]
        subprocess.run([*words[:3], plain, words[4]], check=True, timeout=20)
        # a marker that is no regular file is refused, as by every publication
        assume(all(stat.S_ISREG(os.lstat(path).st_mode) for path in plain.rglob(".cvmfscatalog")))
        begin(bench)
        assert run_in(bench, words, environment=dict(os.environ)) == 0
        publish_edits(bench)

        assert _published(bench) == _there(plain)

    check()


def _published(bench):
    found, _ = read_back(bench.repository, bench.store)
    return {
        path: _row(entry.mode, entry.uid, entry.gid, entry.symlink, content, entry.xattrs)
        + (() if entry.is_directory else (entry.mtime_total_ns, entry.link_count))
        for path, (entry, content) in found.items()
    }


def _there(folder):
    top = os.fsencode(folder)
    places = [top]
    for one, folders, files in os.walk(top):
        places += [os.path.join(one, name) for name in folders + files]
    return {place[len(top) :]: _seen(place, places) for place in places}


def _seen(place, places):
    status = os.lstat(place)
    is_file = stat.S_ISREG(status.st_mode)
    content = Path(os.fsdecode(place)).read_bytes() if is_file else None
    target = os.readlink(place) if stat.S_ISLNK(status.st_mode) else b""
    names = os.listxattr(place, follow_symlinks=False)
    xattrs = {os.fsencode(n): os.getxattr(place, n, follow_symlinks=False) for n in names}
    row = _row(status.st_mode, status.st_uid, status.st_gid, target, content, xattrs)
    if stat.S_ISDIR(status.st_mode):
        return row
    # the format links files of one folder only
    beside = [p for p in places if os.path.dirname(p) == os.path.dirname(place)]
    return (*row, status.st_mtime_ns, sum(os.lstat(p).st_ino == status.st_ino for p in beside))


def _row(mode, uid, gid, target, content, xattrs):
    return (mode, uid, gid, target, content, tuple(sorted(dict(xattrs).items())))
