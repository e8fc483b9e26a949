"""`cvm repo edit`: a shell in which a repository is writable, and what becomes of its changes."""

import json
import os
import signal
import subprocess
import time

import pytest

from cernvm.core.errors import NotFoundError, TransactionOpenError
from cernvm.fs.edit.opening import abort, begin
from cernvm.fs.edit.publishing import differences, publish_edits
from cernvm.fs.fuse import mounts
from cernvm.fs.publish.publishing import publish_tree
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.transaction import open_transaction
from conftest import CVM

from .conftest import NAME, SEEN, contents


def test_what_a_command_changes_is_published(bench, shell):
    shell("echo new > new; rm hello.txt; rm -r v1; echo more >> run", "--yes")

    found = contents(bench)
    assert found["/new"] == b"new\n"
    assert found["/run"] == b"#!/bin/sh\necho ran\nmore\n"
    assert "/hello.txt" not in found
    assert not any(path.startswith("/v1") for path in found)
    assert found["/v2/lib/deep/b"] == b"b"
    assert open_transaction(bench.repository) is None


def test_nothing_is_left_of_an_edit(bench, shell, home):
    shell("echo new > new; sleep 300 &", "--yes")

    assert not any(str(mount.point).startswith(SEEN) for mount in mounts())
    assert _processes_with(home) == []
    assert not list(bench.place.folder.glob("upper/*"))


def test_the_changes_are_shown_with_their_sizes(shell):
    shown = shell("echo new > new; rm hello.txt; chmod 600 run", "--discard").stderr

    assert "+ /new" in shown
    assert "- /hello.txt" in shown
    assert "= /run" in shown
    assert "1 created (4 B)" in shown


def test_discarded_changes_are_gone(bench, shell):
    before = contents(bench)

    shell("rm -r v1 v2 hello.txt", "--discard")

    assert contents(bench) == before
    assert open_transaction(bench.repository) is None


def test_the_status_of_the_command_is_that_of_the_edit_and_nothing_is_published(bench, shell):
    before = read_manifest(bench.repository, bench.store)

    finished = shell("echo new > new; exit 7", "--yes", check=False)

    assert finished.returncode == 7
    assert read_manifest(bench.repository, bench.store) == before
    assert [one.path for one in differences(bench)] == [b"", b"/new"]


def test_kept_changes_are_resumed(bench, shell, cvm):
    shell("echo one > one")
    cvm("repo", "edit", NAME, "--resume", "--yes", "--", "sh", "-c", f"cat {SEEN}/one > {SEEN}/two")

    found = contents(bench)
    assert (found["/one"], found["/two"]) == (b"one\n", b"one\n")


def test_an_edit_that_changes_nothing_makes_no_revision(bench, change):
    before = read_manifest(bench.repository, bench.store)
    moment = "@1600000000.123456789"

    published = change(
        f"touch -d @1 empty; touch -d {moment} empty; chmod 700 run; chmod 755 run;"
        f"cat v1/.cvmfscatalog >> run; touch -d {moment} run"
    )

    assert not published.is_new
    assert read_manifest(bench.repository, bench.store) == before
    assert open_transaction(bench.repository) is None


def test_a_file_that_was_only_opened_for_writing_is_no_change(bench, published):
    begin(bench)
    upper = bench.place.upper
    (upper / "v1").mkdir()

    (upper / "hello.txt").write_bytes(b"hello\n" * 100)
    os.utime(upper / "hello.txt", ns=(0, 1_600_000_000_123_456_789))

    assert [one.path for one in differences(bench) if one.path == b"/hello.txt"] == []
    abort(bench)


def test_a_file_of_the_same_size_and_time_but_other_bytes_is_a_change(bench, published):
    begin(bench)
    upper = bench.place.upper

    (upper / "large").write_bytes(b"\xff" + (bytes(range(256)) * (40 << 10))[1:])
    os.utime(upper / "large", ns=(0, 1_600_000_000_123_456_789))

    assert b"/large" in [one.path for one in differences(bench)]
    abort(bench)


def test_a_renamed_variant_link_keeps_its_variables(bench, change):
    change("mv variant other")

    assert contents(bench)["/other"] == "$(ARCH:-none)/bin"


def test_a_folder_made_anew_hides_what_was_in_it(bench, change):
    change("rm -r v1/lib; mkdir v1/lib; echo x > v1/lib/a.so")

    found = contents(bench)
    assert [path for path in found if path.startswith("/v1/lib")] == ["/v1/lib", "/v1/lib/a.so"]


def test_the_removal_of_a_marker_merges_a_catalog(bench, change):
    change("rm v1/.cvmfscatalog")

    found = contents(bench)  # which checks all counters
    assert found["/v1/lib/deep/b"] == b"b"
    assert "/v1/.cvmfscatalog" not in found


def test_only_a_part_can_be_made_writable(bench, shell):
    refused = shell("echo x > v1/x; echo y > v2/y", "--at", "/v1", "--yes", check=False)
    assert refused.returncode != 0
    assert "Read-only file system" in refused.stderr
    abort(bench)

    shell("echo x > v1/x", "--at", "/v1", "--yes")

    assert contents(bench)["/v1/x"] == b"x\n"


def test_linked_files_are_stored_as_one(bench, change):
    change("echo linked > v1/one; ln v1/one v1/two; ln v1/one v2/elsewhere")

    found = contents(bench)
    assert found["/v1/one"] == found["/v1/two"] == found["/v2/elsewhere"] == b"linked\n"


def test_nobody_else_publishes_meanwhile(bench, shell, tree):
    shell("echo one > one")

    with pytest.raises(TransactionOpenError, match="is open since"):
        publish_tree(bench.repository, bench.store, tree)
    with pytest.raises(TransactionOpenError):
        begin(bench)


def test_a_killed_edit_leaves_its_changes_and_nothing_else(bench, published, home):
    script = f"echo kept > {SEEN}/kept; echo ready; sleep 300 & sleep 300"
    edit = subprocess.Popen(
        [CVM, "repo", "edit", NAME, "--", "sh", "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "CVM_HOME": str(home.path)},
    )
    assert edit.stdout.readline() == b"ready\n"

    edit.send_signal(signal.SIGKILL)
    edit.wait(5)
    edit.stdout.close()

    end = time.monotonic() + 5
    while _processes_with(home) and time.monotonic() < end:
        time.sleep(0.02)
    assert _processes_with(home) == []
    assert b"/kept" in [one.path for one in differences(bench)]
    assert publish_edits(bench).is_new
    assert contents(bench)["/kept"] == b"kept\n"


def test_a_transaction_takes_several_commands(bench, published, cvm):
    for number in (1, 2):
        cvm("repo", "transaction", NAME, "--", "sh", "-c", f"echo {number} >> {SEEN}/numbers")
    told = json.loads(cvm("repo", "publish", NAME, "--tag", "both", "--json").stdout)

    assert told["tags"] == ["both"]
    assert contents(bench)["/numbers"] == b"1\n2\n"


def test_an_aborted_transaction_leaves_nothing(bench, published, cvm):
    before = contents(bench)
    cvm("repo", "transaction", NAME, "--", "sh", "-c", f"rm -r {SEEN}/v1; mkdir -m 0 {SEEN}/closed")

    cvm("repo", "abort", NAME)

    assert contents(bench) == before
    with pytest.raises(NotFoundError):
        abort(bench)


def test_a_transaction_begins_with_a_template(bench, published, cvm):
    cvm(
        "repo", "transaction", NAME, "--template", "/v1=/v3",
        "--", "sh", "-c", f"echo new > {SEEN}/v3/new; test ! -e {SEEN}/v4",
    )  # fmt: skip
    assert "/v3" not in contents(bench)

    cvm("repo", "publish", NAME)

    found = contents(bench)
    assert found["/v3/lib/a.so"] == found["/v1/lib/a.so"]
    assert found["/v3/new"] == b"new\n"


def test_a_copy_reads_no_content(bench, published, cvm):
    told = json.loads(cvm("repo", "copy", NAME, "/v1", "/more/v1", "--json").stdout)

    assert told["read_bytes"] == 0
    found = contents(bench)
    assert found["/more/v1/lib/deep/b"] == b"b"


def _processes_with(home):
    """The processes that run with this data folder, but for those of this test's own."""
    mark = b"CVM_HOME=" + os.fsencode(home.path)
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.append(pid)
        except OSError:
            continue
    return found
