import os
from pathlib import Path

from cernvm.core.process import read_record
from cernvm.fs.mount.record import (
    record_mount,
    record_path,
    recorded_mount,
    recorded_mounts,
    remove_record,
)


def test_a_record_is_read_back_and_is_a_process_record_too(tmp_path):
    made = record_mount(tmp_path, "sft.cernvm.test", Path("/mnt/a b"), "0:55")

    assert recorded_mount(tmp_path, Path("/mnt/a b")) == made
    assert list(recorded_mounts(tmp_path)) == [made]
    assert made.process.pid == os.getpid()
    assert read_record(record_path(tmp_path, Path("/mnt/a b"))) == made.process


def test_a_removed_record_is_gone_and_may_be_removed_again(tmp_path):
    record_mount(tmp_path, "sft.cernvm.test", Path("/mnt"), "0:55")

    remove_record(tmp_path, Path("/mnt"))
    remove_record(tmp_path, Path("/mnt"))

    assert recorded_mount(tmp_path, Path("/mnt")) is None


def test_damaged_records_are_skipped(tmp_path):
    made = record_mount(tmp_path, "sft.cernvm.test", Path("/mnt"), "0:55")
    for number, junk in enumerate((b"", b"[]", b"{}", b'{"pid": 1}', b"\xff")):
        (tmp_path / "mounts" / f"{number}.json").write_bytes(junk)

    assert list(recorded_mounts(tmp_path)) == [made]
