"""Streams: what is written is read back, and nothing else is believed."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import CvmError, FormatError
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH, ObjectKind
from cernvm.fs.replicate.stream import (
    MAGIC,
    Header,
    StreamedDocument,
    StreamedObject,
    StreamReader,
    StreamWriter,
)

DIGEST = Digest(Algorithm.SHA1, bytes(20))
OBJECTS = st.lists(
    st.tuples(st.sampled_from(Algorithm), st.sampled_from(ObjectKind), st.binary(max_size=50)),
    max_size=5,
)
HEADERS = st.builds(
    Header,
    st.just("t.cernvm.test"),
    st.integers(0, 1 << 63),
    st.lists(st.just(DIGEST), min_size=1, max_size=2).map(tuple),
    st.none() | st.just(DIGEST),
    st.integers(0, 1 << 63),
)


def written(header, objects):
    file = io.BytesIO()
    writer = StreamWriter(file, header)
    for algorithm, kind, stored in objects:
        writer.add_object(algorithm.digest(stored), kind, stored)
    writer.add_document(WHITELIST_PATH, b"whitelist")
    writer.add_document(MANIFEST_PATH, b"manifest")
    writer.close()
    assert writer.written_bytes == len(file.getvalue())
    return file.getvalue()


@given(header=HEADERS, objects=OBJECTS)
def test_what_was_written_is_read(header, objects):
    reader = StreamReader(io.BytesIO(written(header, objects)))
    assert reader.header == header
    *came, whitelist, manifest = reader.records()
    assert came == [StreamedObject(a.digest(stored), k, stored) for a, k, stored in objects]
    assert whitelist == StreamedDocument(WHITELIST_PATH, b"whitelist")
    assert manifest == StreamedDocument(MANIFEST_PATH, b"manifest")


@given(header=HEADERS, objects=OBJECTS, at=st.integers(0), bit=st.integers(0, 7))
def test_a_bit_that_is_wrong_is_found(header, objects, at, bit):
    data = bytearray(written(header, objects))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(CvmError):
        list(StreamReader(io.BytesIO(bytes(data))).records())


@given(objects=OBJECTS, at=st.integers(0))
def test_a_stream_that_ends_early_is_found(objects, at):
    data = written(Header("t.cernvm.test", 1, (DIGEST,)), objects)
    with pytest.raises(FormatError):
        list(StreamReader(io.BytesIO(data[: at % len(data)])).records())


def test_what_follows_the_end_is_refused():
    data = written(Header("t.cernvm.test", 1, (DIGEST,)), [])
    with pytest.raises(FormatError, match="follow"):
        list(StreamReader(io.BytesIO(data + b"\0")).records())


@given(noise=st.binary(max_size=200))
def test_noise_is_refused(noise):
    with pytest.raises(CvmError):
        list(StreamReader(io.BytesIO(MAGIC + noise)).records())


def test_a_size_that_lies_takes_no_memory():
    head = (
        MAGIC
        + b'{"name":"t.cernvm.test","revision":1,"roots":["%s"],"base":null,"base_revision":0}\n'
    )
    data = head % (b"0" * 40) + b"O" + bytes(22) + (1 << 31).to_bytes(8, "little") + b"few"
    with pytest.raises(FormatError, match="cut off"):
        list(StreamReader(io.BytesIO(data)).records())


def test_other_documents_than_a_repositorys_are_refused():
    file = io.BytesIO()
    writer = StreamWriter(file, Header("t.cernvm.test", 1, (DIGEST,)))
    writer.add_document(".cvmfsreflog", b"")
    writer.close()
    with pytest.raises(FormatError, match="cvmfsreflog"):
        list(StreamReader(io.BytesIO(file.getvalue())).records())
