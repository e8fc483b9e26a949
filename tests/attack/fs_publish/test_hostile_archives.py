"""Archives as nobody wants them: a clear error that names the member, or a right result; never a broken revision."""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import threading
import time
import tracemalloc
import zipfile
import zlib

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.system.fs_publish.conftest import made_keys, read_back, repository, store

from cernvm.core.errors import ChangedError, CvmError, InvalidInputError
from cernvm.fs.publish.ingest import Format, Ingestion, ingest
from cernvm.fs.publish.ingest.inflating import Growth, inflated
from cernvm.fs.publish.ingest.layers import open_layers
from cernvm.fs.publish.ingest.source import StreamArchive
from cernvm.fs.publish.ingest.tar import TarReader
from cernvm.fs.publish.publishing import Options

__all__ = ["made_keys", "repository", "store"]


def tar_of(*members, **options):
    """A tar of (name, content or TarInfo fields)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", **options) as made:
        for name, content in members:
            info = tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            if isinstance(content, dict):
                for key, value in content.items():
                    setattr(info, key, value)
            made.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def link(target):
    return {"type": tarfile.SYMTYPE, "linkname": target}


def other_name(target):
    return {"type": tarfile.LNKTYPE, "linkname": target}


FOLDER = {"type": tarfile.DIRTYPE, "mode": 0o755}


def published(repository, store, data, tmp_path, **how):
    archive = tmp_path / "archive"
    archive.write_bytes(data)
    ingest(repository, store, archive, Ingestion(**how), options=Options(at="/x"))
    found, _ = read_back(repository, store)
    return {path[2:]: one for path, one in found.items() if path.startswith(b"/x/")}


def refused(repository, store, data, tmp_path, match, error=InvalidInputError, **how):
    with pytest.raises(error, match=match):
        published(repository, store, data, tmp_path, **how)
    assert read_back(repository, store)[1].revision == 0


def unreadable(data, tmp_path, match, **how):
    """As `refused`, where nothing but reading has to tell."""
    archive = tmp_path / "archive"
    archive.write_bytes(data)
    with (
        pytest.raises(InvalidInputError, match=match),
        open_layers(archive, Ingestion(**how)) as layers,
    ):
        read_all(layers)


def read_all(layers):
    for layer in layers:
        for member in layer.members:
            if member.data.offset is None:
                member.data.content()


# --- names


@pytest.mark.parametrize(
    "name", ["../out", "a/../../out", "a/..", "..", "/../etc/passwd", "./../x"]
)
def test_a_member_that_leads_out_is_refused_by_name(tmp_path, name):
    unreadable(tar_of((name, b"x")), tmp_path, r"leads out of the archive")


def test_an_absolute_member_stays_below_the_path(repository, store, tmp_path):
    found = published(repository, store, tar_of(("//etc/passwd", b"x")), tmp_path)

    assert set(found) == {b"/etc", b"/etc/passwd"}


def test_a_link_is_kept_as_it_is_and_never_followed(repository, store, tmp_path):
    targets = ["/etc", "../../..", "etc", "."]
    members = [(f"l{number}", link(target)) for number, target in enumerate(targets)]
    found = published(repository, store, tar_of(*members), tmp_path)
    assert [found[b"/l%d" % n][0].symlink.decode() for n in range(4)] == targets

    for number in range(4):
        data = tar_of(("etc", FOLDER), *members, (f"l{number}/passwd", b"evil"))
        with pytest.raises(InvalidInputError, match=f"'l{number}/passwd' cannot be placed"):
            published(repository, store, data, tmp_path)
    assert b"/x/etc" not in read_back(repository, store)[0]


def test_a_member_below_another_name_of_a_file_is_refused(repository, store, tmp_path):
    data = tar_of(("a", b"1"), ("b", other_name("a")), ("b/c", b"2"))

    refused(repository, store, data, tmp_path, "'b/c' lies below a file")


def test_a_deep_path_overwhelms_nobody(repository, store, tmp_path):
    deep = "/".join(["d"] * 1100)

    found = published(repository, store, tar_of((f"{deep}/f", b"x")), tmp_path, deletes=True)

    assert found[b"/" + deep.encode() + b"/f"][1] == b"x"


def test_any_name_that_a_file_system_takes_is_taken(repository, store, tmp_path):
    odd = ["n" * 255, "new\nline", "\udcff raw \udc80", " ", "...", "-rf"]
    names = [*odd, "a" * 100 + "/" + "b" * 255]

    found = published(repository, store, tar_of(*((name, b"x") for name in names)), tmp_path)

    assert all(found[b"/" + os.fsencode(name)][1] == b"x" for name in names)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("n" * 256, "no directory can hold"), (".", "has no name"), ("", "has no name")],
)
def test_names_that_are_none_are_refused(tmp_path, name, reason):
    unreadable(tar_of((name, b"x")), tmp_path, reason)


def test_a_nul_in_a_name_is_refused(tmp_path):
    data = tar_of(("a", {"pax_headers": {"path": "a\0b"}}), format=tarfile.PAX_FORMAT)

    unreadable(data, tmp_path, "no directory can hold")


@pytest.mark.parametrize("target", ["t" * 5000, "a\0b"])
def test_link_targets_that_are_none_are_refused(tmp_path, target):
    data = tar_of(
        ("a", {**link("x"), "pax_headers": {"linkpath": target}}), format=tarfile.PAX_FORMAT
    )

    unreadable(data, tmp_path, "'a' is a symbolic link that cannot be")


# --- members that meet


def test_the_last_of_several_members_of_a_name_stands(repository, store, tmp_path):
    data = tar_of(
        ("a", b"1"), ("a", b"2"), ("b", b"1"), ("b", link("a")), ("c", link("a")), ("c", b"3"),
        ("d", b"1"), ("d", FOLDER), ("d/e", b"5"), ("f", b"x"), ("g", other_name("f")), ("f", b"y"),
    )  # fmt: skip

    found = published(repository, store, data, tmp_path)

    contents = {path: one[0].symlink or one[1] for path, one in found.items()}
    assert contents == {
        b"/a": b"2", b"/b": b"a", b"/c": b"3", b"/d": None, b"/d/e": b"5", b"/f": b"y", b"/g": b"x",
    }  # fmt: skip
    assert found[b"/g"][0].hardlink_group == 0


def test_a_file_where_a_folder_stands_is_refused(repository, store, tmp_path):
    data = tar_of(("a", FOLDER), ("a/b", b"1"), ("a", b"2"))

    refused(repository, store, data, tmp_path, "'a' would replace a directory")


def test_another_name_of_nothing_is_refused(repository, store, tmp_path):
    for target in ("nothing", "a", "../x", "folder"):
        data = tar_of(("folder", FOLDER), ("a", other_name(target)))
        refused(repository, store, data, tmp_path, "is another name of|leads out")


def test_another_name_of_another_name_and_of_a_link(repository, store, tmp_path):
    data = tar_of(
        ("a", b"1"), ("b", other_name("a")), ("c", other_name("b")), ("d", link("a")),
        ("e", other_name("d")), ("f/g", other_name("c")), ("a", other_name("a")),
    )  # fmt: skip

    found = published(repository, store, data, tmp_path)

    assert {found[path][0].hardlink_group for path in (b"/a", b"/b", b"/c")} == {1}
    assert found[b"/a"][0].link_count == 3
    assert found[b"/e"][0].symlink == b"a"
    assert found[b"/f/g"][1] == b"1"


def test_devices_pipes_and_set_user_bits_are_kept_as_they_are(repository, store, tmp_path):
    data = tar_of(
        ("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3, "mode": 0o666}),
        ("disk", {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 300}),
        ("pipe", {"type": tarfile.FIFOTYPE}),
        ("su", {"mode": 0o6755}),
    )

    found = published(repository, store, data, tmp_path)

    assert found[b"/null"][0].mode == stat.S_IFCHR | 0o666
    assert found[b"/null"][0].rdev == os.makedev(1, 3)
    assert found[b"/disk"][0].rdev == os.makedev(8, 300)
    assert stat.S_ISFIFO(found[b"/pipe"][0].mode)
    assert found[b"/su"][0].mode == stat.S_IFREG | 0o6755


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"uid": 1 << 33}, "has the owner"),
        ({"gid": -5}, "has the owner"),
        ({"mtime": 1 << 70}, "no clock shows"),
        ({"type": b"Z"}, "of the kind b'Z'"),
        ({"type": b"M"}, "of the kind b'M'"),
        ({"type": tarfile.CHRTYPE, "devmajor": 1 << 40}, "no device"),
        ({"type": tarfile.BLKTYPE, "devminor": -1}, "no device"),
    ],
)
def test_attributes_that_no_file_has_are_refused(tmp_path, fields, reason):
    data = tar_of(("a", fields), format=tarfile.GNU_FORMAT)

    unreadable(data, tmp_path, f"'a' .*{reason}")


# --- sizes


def with_size(size, data=b"", kind=b"0"):
    """A member that claims to be of a size."""
    info = tarfile.TarInfo("big")
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT) + data


@pytest.mark.parametrize("size", [1 << 20, 1 << 40, (1 << 63) - 1, (1 << 87) - 1])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_size_beyond_the_archives_end_costs_nothing(tmp_path, size, pack):
    tracemalloc.start()
    unreadable(pack(with_size(size, bytes(5000))), tmp_path, "cut off")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 64 << 20


def test_a_negative_size_is_refused(tmp_path):
    unreadable(with_size(-512), tmp_path, "'big' has the size -512")


@pytest.mark.parametrize("kind", [b"x", b"L", b"K", b"g"])
def test_a_header_that_claims_to_be_huge_is_refused(tmp_path, kind):
    unreadable(with_size(1 << 40, kind=kind), tmp_path, "header of")


def test_a_sparse_member_that_claims_to_be_huge_ends_early(tmp_path):
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "huge",
               "GNU.sparse.realsize": str(1 << 62)}  # fmt: skip
    info = tarfile.TarInfo("huge")
    info.pax_headers = records
    body = b"0\n".ljust(512, b"\0")
    info.size = len(body)
    data = info.tobuf(tarfile.PAX_FORMAT) + body + bytes(1024)
    started = time.monotonic()

    unreadable(data, tmp_path, "grows to more than")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "stretches",
    ["0,10,5,10", "10,5,0,5", "0,600", "100,50", "0", "0,-5", "x,1", "0,512," + "0,0," * 9],
)
def test_a_lying_map_of_a_sparse_member_is_refused(repository, store, tmp_path, stretches):
    records = {"GNU.sparse.map": stretches, "GNU.sparse.size": "512"}
    info = tarfile.TarInfo("s")
    info.pax_headers, info.size = records, 512
    data = info.tobuf(tarfile.PAX_FORMAT) + b"d" * 512 + bytes(1024)

    if stretches.startswith("0,512,"):  # empty stretches say nothing
        assert published(repository, store, data, tmp_path)[b"/s"][1] == b"d" * 512
        return
    unreadable(data, tmp_path, "sparse member|no number")


def test_a_stream_that_grows_without_end_is_refused():
    packed = zstandard.compress(bytes(64 << 20))
    growth = Growth("bomb")
    endless = io.BytesIO(packed * 100)
    archive = StreamArchive(inflated(endless.read, growth)[0], growth)

    with pytest.raises(InvalidInputError, match="bomb grows to more than 1000 times"):
        archive.skip(1 << 40)
    assert archive.position < 2 << 30


def test_an_xz_dictionary_may_not_take_the_memory():
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1536 << 20}]
    packed = bytearray(lzma.compress(b"x", filters=[{**filters[0], "dict_size": 4096}]))
    packed[12 + 4] = 40  # the greatest dictionary that a header can ask for: 4 GiB
    packed[20:24] = struct.pack("<I", zlib.crc32(packed[12:20]))
    growth = Growth("greedy")
    archive = StreamArchive(inflated(io.BytesIO(bytes(packed)).read, growth)[0], growth)

    with pytest.raises(InvalidInputError, match="greedy is cut off or damaged"):
        archive.read(10)


# --- archives that are not what they were, or should be


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_refused(tmp_path, pack, share):
    members = [(f"f{number}", os.urandom(3000)) for number in range(20)]
    data = pack(tar_of(*members)[: 20 * (512 + 3072) + 512])  # with no more than its end

    unreadable(data[: int(len(data) * share)], tmp_path, "cut off|damaged")


def test_a_truncated_archive_leaves_the_last_revision(repository, store, tmp_path):
    data = tar_of(*((f"f{number}", os.urandom(3000)) for number in range(200)))

    refused(repository, store, data[:500_000], tmp_path, "cut off")


def test_an_archive_that_is_cut_between_members_is_refused(tmp_path):
    data = tar_of(("a", b"x" * 512), ("b", b"y" * 512))

    unreadable(data[:1024], tmp_path, "does not say that it is at its end")


@pytest.mark.parametrize(
    "data", [b"", b"no tar at all", os.urandom(2000), b"PK\5\6", b"PK" + bytes(500)]
)
def test_what_is_no_archive_is_refused(tmp_path, data):
    unreadable(data, tmp_path, "no tar|is empty|no archive|no zip|no number")


def test_a_zip_that_comes_through_a_pipe_is_named(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a", b"a" * 1000)
    packed.seek(0)

    with (
        pytest.raises(InvalidInputError, match="is a zip"),
        open_layers(packed, Ingestion()) as layers,
    ):
        read_all(layers)


def test_an_archive_that_changes_while_it_is_read_is_refused(repository, store, tmp_path):
    archive = tmp_path / "archive"
    archive.write_bytes(tar_of(*((f"f{number}", os.urandom(100_000)) for number in range(300))))
    done = threading.Event()

    def disturb():
        while not done.is_set():
            os.utime(archive)
            time.sleep(0.001)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        with pytest.raises((ChangedError, InvalidInputError), match="changed|archive"):
            ingest(repository, store, archive)
    finally:
        done.set()
        thread.join()
    assert read_back(repository, store)[1].revision == 0


def test_a_folder_a_pipe_and_nothing_are_no_archives(repository, store, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, how in (("pipe", {}), ("nothing", {}), (".", {"format": Format.TAR})):
        with pytest.raises(CvmError):
            ingest(repository, store, tmp_path / name, Ingestion(**how))


def test_a_hundred_thousand_members_are_published(repository, store, tmp_path, count):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for number in range(count(100_000)):
            made.addfile(tarfile.TarInfo(f"{number // 1000}/{number}"))

    found = published(repository, store, stream.getvalue(), tmp_path)

    assert sum(not entry.is_directory for entry, _ in found.values()) == count(100_000)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_damage_is_our_error_or_a_right_end(data):
    whole = bytearray(
        tar_of(
            ("a", b"content" * 100),
            ("l" * 200, link("m" * 200)),
            ("b", other_name("a")),
            ("p", {"pax_headers": {"mtime": "12345.678", "SCHILY.xattr.user.a": "b"}}),
            format=data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])),
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        for at in range(0, len(whole) - 511, 512):  # checksums that are right again
            block = whole[at : at + 512]
            block[148:156] = b" " * 8
            if whole[at + 257 : at + 262] == b"ustar":
                whole[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    growth = Growth("damaged")
    archive = StreamArchive(inflated(io.BytesIO(bytes(whole)).read, growth)[0], growth)
    try:
        for member in TarReader(archive).members():
            member.data.content()
    except CvmError:
        pass


# --- zips


def zip_of(*members, kind=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as made:
        for name, data in members:
            made.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["../out", "a/../../out"])
def test_a_zip_that_leads_out_is_refused(tmp_path, name):
    unreadable(zip_of((name, b"x")), tmp_path, "leads out")


def test_a_zip_whose_members_share_bytes_is_refused(tmp_path):
    data = bytearray(zip_of(("a", bytes(1 << 20)), ("b", b"x")))
    entry = data.index(b"PK\1\2", data.index(b"PK\1\2") + 4)
    data[entry + 42 : entry + 46] = bytes(4)  # the second member's place is the first one's

    unreadable(bytes(data), tmp_path, "shares its bytes|damaged")


def test_a_zip_that_lies_about_sizes_is_refused(tmp_path):
    for field, value in ((24, 5), (24, 1 << 31), (20, 3), (16, 1)):  # content, stored, checksum
        data = bytearray(zip_of(("a", b"text" * 1000)))
        entry = data.index(b"PK\1\2")
        data[entry + field : entry + field + 4] = struct.pack("<I", value)
        unreadable(bytes(data), tmp_path, "damaged|cut off|grows")


def test_an_encrypted_zip_is_refused(tmp_path):
    data = bytearray(zip_of(("a", b"text")))
    for magic, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(magic) + at] |= 1

    unreadable(bytes(data), tmp_path, "'a' is encrypted")


def test_a_member_below_a_zips_link_is_refused(repository, store, tmp_path):
    info = zipfile.ZipInfo("l")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    data = zip_of((info, b"/etc"), ("l/passwd", b"evil"))

    refused(repository, store, data, tmp_path, "'l/passwd' cannot be placed")


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_damaged_zip_is_our_error_or_right(tmp_path_factory, data):
    from cernvm.fs.publish.ingest.zips import open_zip, read_zip

    whole = bytearray(zip_of(("a", b"content" * 100), ("b/", b""), ("ü", b"x")))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("z") / "z.zip"
    path.write_bytes(whole)
    try:
        with open_zip(path) as archive:
            for member in read_zip(archive):
                member.data.content()
    except CvmError:
        pass


def test_marks_of_catalogs_come_in_any_way_and_order(repository, store, tmp_path):
    data = tar_of(
        *(("a/x", b""), ("a/.cvmfscatalog", other_name("a/x")), ("a/y", other_name("a/x"))),
        *(("b", FOLDER), ("b/.cvmfscatalog", b""), ("b/.cvmfscatalog", b""), ("b/c/d", b"1")),
        ("b/c/.cvmfscatalog", other_name("b/.cvmfscatalog")),
    )

    found = published(repository, store, data, tmp_path)

    assert set(found) == {
        *(b"/a", b"/a/x", b"/a/y", b"/a/.cvmfscatalog", b"/b", b"/b/.cvmfscatalog"),
        *(b"/b/c", b"/b/c/d", b"/b/c/.cvmfscatalog"),
    }
    assert found[b"/a/x"][0].link_count == 3


def test_a_mark_of_a_catalog_that_is_a_link_is_refused(repository, store, tmp_path):
    refused(repository, store, tar_of(("a/.cvmfscatalog", link("x"))), tmp_path, "cvmfscatalog")
