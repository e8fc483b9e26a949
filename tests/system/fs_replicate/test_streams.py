"""Revisions that travel as files: exported, imported, resumed, refused."""

import io
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cernvm.core.errors import (
    CvmError,
    DigestMismatchError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    RollbackError,
    SignatureError,
)
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH, ObjectKind, object_path
from cernvm.fs.publish.keys import Keys, create_keys
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.replicate.exporting import export
from cernvm.fs.replicate.importing import import_stream
from cernvm.fs.replicate.stream import Header, StreamedObject, StreamReader, StreamWriter
from cernvm.fs.store.local import LocalStore
from cernvm.fs.survey.reading import read_tags
from system.replicas import NAME, bring, read_replica_back, read_tree_back


def exported(upstream, *, base="", also=()):
    manifest = read_manifest(upstream.repository, upstream.store)
    tags = {tag.name: tag for tag in read_tags(manifest, upstream.store)}
    file = io.BytesIO()
    roots = [tags[name].root_catalog for name in also]
    export(upstream.store, manifest, file, base=tags.get(base), also=roots)
    return file.getvalue()


def taken(upstream, copy, data, **words):
    store = LocalStore(copy)
    reader = StreamReader(io.BytesIO(data))
    return import_stream(upstream.replica(copy), store, reader, **words), store


def test_a_stream_brings_a_whole_revision(upstream, copy):
    done, store = taken(upstream, copy, exported(upstream))
    manifest, found = read_replica_back(store, upstream.key)
    assert (done.revision, done.is_new) == (manifest.revision, True)
    assert b"/d1/deeper/last" in found


def test_a_difference_brings_the_next_revision_and_is_small(upstream, copy):
    first = exported(upstream)
    taken(upstream, copy, first)
    upstream.change(2)
    step = exported(upstream, base="v0")
    done, store = taken(upstream, copy, step)
    assert read_replica_back(store, upstream.key)[0].revision == done.revision == 2
    assert len(step) < len(exported(upstream)) / 2


def test_a_difference_is_refused_where_its_base_is_not(upstream, copy):
    upstream.change(2)
    with pytest.raises(NotFoundError, match="1"):
        taken(upstream, copy, exported(upstream, base="v0"))
    assert not list(LocalStore(copy).paths("data/"))


def test_tagged_revisions_travel_along(upstream, copy):
    old = upstream.revisions[0].root_catalog
    upstream.change(2)
    done, store = taken(upstream, copy, exported(upstream, also=["v0"]))
    assert done.revisions == 2
    read_tree_back(store, old)


def test_a_replica_goes_on_by_stream_and_by_network_in_turn(upstream, copy):
    bring(upstream.replica(copy))
    upstream.change(2)
    taken(upstream, copy, exported(upstream, base="v0"))
    upstream.change(3)
    done, store = bring(upstream.replica(copy))
    assert done.revision == 3
    read_replica_back(store, upstream.key)


def test_a_replica_can_be_exported_too(upstream, copy, tmp_path):
    _, store = taken(upstream, copy, exported(upstream))
    file = io.BytesIO()
    manifest, _ = read_replica_back(store, upstream.key)
    export(store, manifest, file)
    _, other = taken(upstream, tmp_path / "other", file.getvalue())
    read_replica_back(other, upstream.key)


def test_a_partial_replica_is_not_exported(upstream, copy):
    _, store = bring(upstream.replica(copy, paths=("/d1",)))
    manifest = read_manifest(upstream.repository, upstream.store)
    with pytest.raises(InvalidInputError, match="part"):
        export(store, manifest, io.BytesIO())


def test_a_damaged_store_is_not_exported(upstream):
    victim = next(p for p in upstream.store.folder.glob("data/*/*") if p.name[-1] not in "CHXKF")
    victim.write_bytes(b"damage")
    with pytest.raises(DigestMismatchError, match=victim.name):
        exported(upstream)


def test_a_stream_that_broke_off_is_gone_on_with(upstream, copy):
    data = exported(upstream)
    with pytest.raises(FormatError, match="cut off"):
        taken(upstream, copy, data[: len(data) // 2])
    kept = len(list(LocalStore(copy).paths("data/")))
    assert kept
    assert not LocalStore(copy).has(MANIFEST_PATH)
    done, store = taken(upstream, copy, data)
    assert done.new_objects <= done.objects - kept
    read_replica_back(store, upstream.key)


def test_no_damage_of_a_stream_is_overlooked(upstream, tmp_path, count, seeded):
    data = exported(upstream)
    for number in range(count(200)):
        at = seeded.randrange(len(data))
        bad = data[:at] + bytes([data[at] ^ 1 << seeded.randrange(8)]) + data[at + 1 :]
        copy = tmp_path / f"copy{number}"
        with pytest.raises(CvmError):
            taken(upstream, copy, bad)
        assert not LocalStore(copy).has(MANIFEST_PATH)


def test_an_older_revision_is_refused(upstream, copy):
    old = exported(upstream)
    upstream.change(2)
    bring(upstream.replica(copy))
    with pytest.raises(RollbackError):
        taken(upstream, copy, old)
    assert read_replica_back(LocalStore(copy), upstream.key)[0].revision == 2


def rewritten(data, change):
    """The stream with other records: `change` gets each and gives those in its place."""
    reader = StreamReader(io.BytesIO(data))
    out = io.BytesIO()
    writer = StreamWriter(out, reader.header)
    for record in reader.records():
        for one in change(record):
            if isinstance(one, StreamedObject):
                writer.add_object(one.digest, one.kind, one.stored)
            else:
                writer.add_document(one.path, one.data)
    writer.close()
    return out.getvalue()


def test_a_well_formed_stream_that_leaves_an_object_out_is_refused(upstream, copy):
    left_out = []

    def without_one(record):
        if not left_out and getattr(record, "kind", None) is ObjectKind.PLAIN:
            left_out.append(record)
            return []
        return [record]

    data = rewritten(exported(upstream), without_one)
    with pytest.raises(FormatError, match="lacks|neither"):
        taken(upstream, copy, data)
    root = upstream.revisions[0].root_catalog
    assert not LocalStore(copy).has(object_path(root, ObjectKind.CATALOG))


@pytest.mark.parametrize("kind", [ObjectKind.CATALOG, ObjectKind.CERTIFICATE, ObjectKind.HISTORY])
def test_a_stream_without_what_its_manifest_names_is_refused(kind, upstream, copy):
    data = rewritten(
        exported(upstream), lambda one: [] if getattr(one, "kind", None) is kind else [one]
    )
    with pytest.raises(FormatError):
        taken(upstream, copy, data)
    assert not LocalStore(copy).has(MANIFEST_PATH)


@pytest.mark.parametrize("path", [WHITELIST_PATH, MANIFEST_PATH])
def test_a_stream_without_its_documents_is_refused(path, upstream, copy):
    data = rewritten(
        exported(upstream), lambda one: [] if getattr(one, "path", None) == path else [one]
    )
    with pytest.raises(FormatError):
        taken(upstream, copy, data)


def test_a_stream_that_another_key_vouches_for_is_refused(upstream, copy, tmp_path):
    others = Keys(tmp_path / "others", NAME)
    create_keys(others, now=datetime.now(UTC))
    replica = replace(upstream.replica(copy), public_keys=(others.public,))
    with pytest.raises(SignatureError):
        import_stream(replica, LocalStore(copy), StreamReader(io.BytesIO(exported(upstream))))
    assert not LocalStore(copy).has(MANIFEST_PATH)


def test_a_root_that_no_tag_names_is_refused(upstream, copy):
    """Else a stream could bring a replica revisions that the publisher has withdrawn."""
    data = exported(upstream)
    reader = StreamReader(io.BytesIO(data))
    records = list(reader.records())
    nested = next(one.digest for one in records if getattr(one, "kind", None) is ObjectKind.CATALOG)
    out = io.BytesIO()
    writer = StreamWriter(out, Header(NAME, 1, (reader.header.roots[0], nested)))
    for one in records:
        if isinstance(one, StreamedObject):
            writer.add_object(one.digest, one.kind, one.stored)
        else:
            writer.add_document(one.path, one.data)
    writer.close()
    with pytest.raises(FormatError, match="no tag"):
        taken(upstream, copy, out.getvalue())


_RUN = """
import sys
from pathlib import Path
from cernvm.fs.replicate.importing import import_stream
from cernvm.fs.replicate.replica import Replica
from cernvm.fs.replicate.stream import StreamReader
from cernvm.fs.store.local import LocalStore
name, storage, key, stream = sys.argv[1:]
replica = Replica(name, storage, (), (Path(key),))
print("begins", flush=True)
with open(stream, "rb") as file:
    import_stream(replica, LocalStore(Path(storage)), StreamReader(file))
"""


@pytest.mark.timeout(600)
def test_a_kill_at_any_point_leaves_the_last_revision_and_the_next_import_right(
    upstream, copy, tmp_path, count, seeded
):
    stream = tmp_path / "stream"
    served = 0
    for number in range(count(60)):
        if number % 3 == 0:
            upstream.change(number + 2)
            stream.write_bytes(exported(upstream))
        words = [NAME, str(copy), str(upstream.key), str(stream)]
        child = subprocess.Popen([sys.executable, "-c", _RUN, *words], stdout=subprocess.PIPE)
        with child.stdout:
            assert child.stdout.readline() == b"begins\n"
            time.sleep(seeded.uniform(0, 0.1))
            child.send_signal(signal.SIGKILL)
            child.wait(10)
        store = LocalStore(copy)
        if store.has(MANIFEST_PATH):
            manifest, _ = read_replica_back(store, upstream.key)
            assert manifest.revision >= served
            served = manifest.revision
        else:
            assert served == 0
    done, store = taken(upstream, copy, stream.read_bytes())
    assert done.revision == upstream.revisions[-1].revision
    read_replica_back(store, upstream.key)
    assert store.has(object_path(done.root_catalog, ObjectKind.CATALOG))
