"""The programs that build releases end with one clear error."""

import time

import pytest

from cernvm.box.release.tools import failure, remove_tree, run_tool
from cernvm.core.errors import DeadlineError, HostError, PrerequisiteError, SpaceError


def run(script, **options):
    lines = []
    options = {"progress": lines.append, "source": "the mirror", **options}
    tail = run_tool(["sh", "-c", script], **options)
    return lines, tail


def test_lines_reach_the_progress_as_they_come():
    lines, tail = run("echo one; printf 'two\\rthree\\n'; printf four")
    assert lines == tail == ["one", "two", "three", "four"]


def test_a_failure_tells_the_program_and_its_own_cause():
    with pytest.raises(HostError) as caught:
        run("echo working; echo 'E: Unable to locate package python9'; echo 'see above'; exit 100")
    assert "Unable to locate package python9" in caught.value.what
    assert "status 100" in caught.value.what
    assert "apt" in caught.value.advice


def test_a_missing_program_is_named_with_its_package():
    with pytest.raises(PrerequisiteError) as caught:
        run_tool(
            ["no-such-program"], progress=print, source="the mirror", package="no-such-package"
        )
    assert "no-such-program" in caught.value.what
    assert "no-such-package" in caught.value.advice


def test_a_full_disk_is_told_apart():
    error = failure(["dpkg"], 2, ["dpkg: error: write: No space left on device"], source="x")
    assert isinstance(error, SpaceError)


def test_pip_without_network_advises_on_pip():
    tail = [
        "WARNING: Retrying after connection broken",
        "ERROR: Could not find a version that satisfies the requirement numpy",
    ]
    error = failure(["/usr/bin/python3", "-m", "pip"], 1, tail, source="the Python package index")
    assert isinstance(error, HostError)
    assert "pip failed" in error.what
    assert "Could not find a version" in error.what
    assert "pip configuration" in error.advice


def test_a_program_that_hangs_is_ended_at_its_deadline():
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        run("sleep 60", deadline_s=0.3)
    assert time.monotonic() - began < 5


def test_endless_lines_are_bounded():
    lines, _ = run("head -c 1000000 /dev/zero | tr '\\0' x")
    assert len(lines) == 1
    assert len(lines[0]) <= 64 * 1024


def test_a_tree_is_removed_with_its_unreadable_parts(tmp_path):
    tree = tmp_path / "tree"
    (tree / "deep/er").mkdir(parents=True)
    (tree / "deep/er").chmod(0)
    remove_tree(tree)
    remove_tree(tree)
    assert not tree.exists()
