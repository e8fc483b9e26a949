"""What the original wrote, read and written again: not a byte may differ."""

import json
from datetime import UTC, datetime

import pytest

from cernvm.core.digest import Algorithm
from cernvm.core.errors import ExpiredError, SignatureError
from cernvm.fs.format import catalog, history
from cernvm.fs.format.chunker import ChunkSizes, CutFinder
from cernvm.fs.format.compress import inflate
from cernvm.fs.format.entry import check_chunks
from cernvm.fs.format.letter import format_letter, parse_letter
from cernvm.fs.format.manifest import format_manifest, parse_manifest
from cernvm.fs.format.objects import ObjectKind, object_path, parse_object_path
from cernvm.fs.format.signature import CryptographyVerifier
from cernvm.fs.format.statistics import (
    Counters,
    count_entries,
    format_statistics,
    parse_statistics,
)
from cernvm.fs.format.trust import verify_repository
from cernvm.fs.format.whitelist import format_whitelist, parse_whitelist

from .conftest import NAME, VECTORS, catalogs_below

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def manifest(vectors):
    letter = parse_letter((vectors / ".cvmfspublished").read_bytes(), where="manifest")
    return parse_manifest(letter.text)


def certificate(vectors, manifest):
    path = object_path(manifest.certificate, ObjectKind.CERTIFICATE)
    return inflate((vectors / path).read_bytes(), limit_bytes=1 << 16)


def chain(vectors, manifest, master_key, **changes):
    parts = {
        "name": NAME,
        "manifest_bytes": (vectors / ".cvmfspublished").read_bytes(),
        "certificate": certificate(vectors, manifest),
        "whitelist_bytes": (vectors / ".cvmfswhitelist").read_bytes(),
        "master_keys": [master_key],
        "now": NOW,
        "verifier": CryptographyVerifier(),
    }
    return verify_repository(**(parts | changes))


def test_manifest_is_written_as_it_was_read(vectors, manifest):
    data = (vectors / ".cvmfspublished").read_bytes()
    letter = parse_letter(data, where="manifest")

    assert format_manifest(manifest) == letter.text
    assert format_letter(letter) == data


def test_whitelist_is_written_as_it_was_read(vectors):
    data = (vectors / ".cvmfswhitelist").read_bytes()
    letter = parse_letter(data, where="whitelist")

    assert format_whitelist(parse_whitelist(letter.text)) == letter.text
    assert format_letter(letter) == data


def test_chain_of_trust_of_the_original_holds(vectors, manifest, master_key):
    assert chain(vectors, manifest, master_key).revision == 3
    assert certificate(vectors, manifest) == (VECTORS / "keys" / f"{NAME}.crt").read_bytes()


def test_whitelist_runs_out(vectors, manifest, master_key):
    with pytest.raises(ExpiredError, match="expired at 2036"):
        chain(vectors, manifest, master_key, now=datetime(2037, 1, 1, tzinfo=UTC))


def test_another_repository_is_refused(vectors, manifest, master_key):
    with pytest.raises(SignatureError, match=r"of repository 'vectors.cernvm.test'"):
        chain(vectors, manifest, master_key, name="other.cernvm.test")


def test_every_row_of_every_catalog_is_written_as_it_was_read(manifest, opened):
    rows = 0
    for properties, database in catalogs_below(manifest.root_catalog, opened):
        paths = {catalog.path_key(properties.root_prefix): properties.root_prefix}
        waiting = database.execute("SELECT * FROM catalog").fetchall()
        columns = catalog.entry_columns(properties.schema_revision)
        select = f"SELECT {columns} FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?"
        while waiting:
            row = waiting.pop(0)
            if row[:2] not in paths and row[2:4] not in paths:
                waiting.append(row)
                continue
            path = paths.get(row[:2]) or (
                b"" if row[:2] == catalog.path_key(b"") else paths[row[2:4]] + b"/" + row[11]
            )
            paths[row[:2]] = path
            entry = catalog.parse_entry(database.execute(select, row[:2]).fetchone())
            algorithm = catalog.chunk_algorithm(row[10])
            assert catalog.format_entry(entry, path, algorithm=algorithm) == row
            rows += 1

    assert rows == 214


def test_counters_are_what_the_original_counted(manifest, opened):
    totals = {}
    for properties, database in reversed(list(catalogs_below(manifest.root_catalog, opened))):
        columns = catalog.entry_columns(properties.schema_revision)
        entries = []
        for *key, row in (
            (row[0], row[1], row[2:])
            for row in database.execute(f"SELECT md5path_1, md5path_2, {columns} FROM catalog")
        ):
            chunks = database.execute(catalog.SELECT_CHUNKS, key).fetchall()
            entries.append((catalog.parse_entry(row), len(chunks)))
        select = f"SELECT {catalog.nested_columns(7)} FROM nested_catalogs"
        nested = [catalog.parse_nested(row).path for row in database.execute(select)]
        rows = database.execute(catalog.SELECT_STATISTICS).fetchall()
        statistics = parse_statistics(rows)
        totals[properties.root_prefix] = statistics.total

        assert count_entries(entries, nested=len(nested)) == statistics.own
        assert sum((totals[path] for path in nested), Counters()) == statistics.subtree
        assert {(k.encode(), v) for k, v in format_statistics(statistics)} == set(rows)


def test_cut_marks_are_those_of_the_original(vectors, manifest, opened):
    files = 0
    database = opened(manifest.root_catalog)
    keys = database.execute("SELECT DISTINCT md5path_1, md5path_2 FROM chunks").fetchall()
    for key in keys:
        rows = database.execute(catalog.SELECT_CHUNKS, key).fetchall()
        chunks = sorted(catalog.parse_chunk(row, algorithm=Algorithm.SHA1) for row in rows)
        content = b"".join(
            inflate(
                (vectors / object_path(chunk.digest, ObjectKind.PARTIAL)).read_bytes(),
                limit_bytes=chunk.size,
            )
            for chunk in chunks
        )
        check_chunks(tuple(chunks), size=len(content), where="vectors")
        finder = CutFinder(ChunkSizes())
        marks = [
            mark
            for at in range(0, len(content), 1 << 18)
            for mark in finder.feed(content[at : at + (1 << 18)])
        ]

        assert [0, *marks] == [chunk.offset for chunk in chunks]
        files += 1

    assert files == 2


def test_tags_of_the_original_are_read(manifest, opened):
    database = opened(manifest.history, ObjectKind.HISTORY)
    tags = [history.parse_tag(row) for row in database.execute(history.SELECT_TAGS)]

    assert {"first", "tag2", "tag3", "trunk", "trunk-previous"} == {tag.name for tag in tags}
    assert {tag.root_catalog for tag in tags if tag.revision == 3} == {manifest.root_catalog}


def test_every_object_is_named_by_its_digest(vectors):
    objects = [path for path in vectors.glob("data/*/*") if path.is_file()]
    for path in objects:
        digest, kind = parse_object_path(str(path.relative_to(vectors)))

        assert digest.algorithm.digest(path.read_bytes()) == digest
        assert object_path(digest, kind) == str(path.relative_to(vectors))
    assert len(objects) > 150


def test_listing_names_every_entry(manifest, opened):
    listed = [json.loads(line) for line in (VECTORS / "listing.jsonl").read_text().splitlines()]
    count = sum(
        database.execute("SELECT count(*) FROM catalog WHERE NOT flags & 2").fetchone()[0]
        for _, database in catalogs_below(manifest.root_catalog, opened)
    )

    assert count == len(listed)
