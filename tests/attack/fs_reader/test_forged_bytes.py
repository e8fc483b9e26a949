"""A bit flipped anywhere is never served: reading ends in an error that names its cause, or not at all."""

import pytest

from attack.fs_reader.forge import CONTENT, Client, honest
from cernvm.core.errors import CvmError, FormatError, HostError, TrustError
from cernvm.fs.format.letter import parse_letter
from cernvm.fs.format.manifest import parse_manifest
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH
from cernvm.net import Fault

DOCUMENTS = honest().documents
KINDS = {
    "manifest": [MANIFEST_PATH],
    "whitelist": [WHITELIST_PATH],
    "certificate": [p for p in DOCUMENTS if p.endswith("X")],
    "catalog": [p for p in DOCUMENTS if p.endswith("C")],
    "chunk": [p for p in DOCUMENTS if p.endswith("P")],
    "file": [p for p in DOCUMENTS if p[-1] in "0123456789abcdef"],
}


def flipped(path, bit):
    data = bytearray(DOCUMENTS[path])
    data[bit // 8] ^= 1 << bit % 8
    return DOCUMENTS | {path: bytes(data)}


def read_everything(client):
    """What a reader got, and the errors that it met."""
    got, errors, explained = {}, [], []
    try:
        view = client.mount()
    except CvmError as error:
        return got, [error]
    for path in CONTENT:
        try:
            got[path] = client.read(view, path)
        except CvmError as error:
            errors.append(error)
            explained.append(view.why(path).failures[0].error == str(error))
    assert all(explained)
    return got, errors


def test_the_honest_repository_is_read_whole():
    assert read_everything(Client(DOCUMENTS)) == (CONTENT, [])


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_never_served(kind, seeded, count):
    for _ in range(count(300)):
        path = seeded.choice(KINDS[kind])
        bit = seeded.randrange(8 * len(DOCUMENTS[path]))

        got, errors = read_everything(Client(flipped(path, bit)))

        assert errors, f"nobody noticed bit {bit} of {path}"
        assert all(isinstance(error, TrustError | FormatError) for error in errors), errors
        assert got.items() <= CONTENT.items()


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_second_host_makes_up_for_a_forging_one(kind):
    path = KINDS[kind][0]

    assert read_everything(Client(flipped(path, 77), DOCUMENTS)) == (CONTENT, [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_stale_proxy_is_passed_by_a_request_past_its_cache(kind):
    client = Client(DOCUMENTS)
    client.exchange.faults["http://host", KINDS[kind][0]] = Fault.STALE

    assert read_everything(client) == (CONTENT, [])


@pytest.mark.parametrize("cut", [0, 1, -1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_or_longer_document_is_never_served(kind, cut):
    for path in KINDS[kind]:
        data = DOCUMENTS[path]
        spoiled = data[: len(data) * cut] if cut >= 0 else data[:-1]
        spoiled = spoiled if spoiled != data else data + b"\0"

        got, errors = read_everything(Client(DOCUMENTS | {path: spoiled}))

        assert errors
        assert all(isinstance(e, TrustError | FormatError | HostError) for e in errors)
        assert got.items() <= CONTENT.items()


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.SILENT, Fault.CUT, Fault.BROKEN])
def test_an_unavailable_object_is_an_error_within_the_deadline(fault):
    client = Client(DOCUMENTS)
    view = client.mount()
    client.exchange.faults["http://host", ""] = fault
    before = client.clock.elapsed_s

    with pytest.raises(CvmError):
        client.read(view, b"/plain")
    assert client.clock.elapsed_s - before <= 21
    assert view.why(b"/plain").failures


def test_the_signature_covers_what_the_manifest_says():
    letter = parse_letter(DOCUMENTS[MANIFEST_PATH], where="")
    other = letter.text.replace("S1\n", "S9\n")

    assert parse_manifest(other).revision == 9
    spoiled = DOCUMENTS[MANIFEST_PATH].replace(letter.text.encode(), other.encode())
    assert isinstance(
        read_everything(Client(DOCUMENTS | {MANIFEST_PATH: spoiled}))[1][0], TrustError
    )
