import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.clock import SystemClock
from cernvm.core.errors import CvmError, DeniedError, ExpiredError, SignatureError
from cernvm.storage import Capability, StorageClient, mint_token, read_token

KEY = b"k" * 32
GOOD = mint_token(KEY, Capability("jobs/7/1", ("PUT",), 1 << 40, 100, "7"))
EMPTY = hashlib.sha256(b"").hexdigest()


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="ascii"))
def test_a_token_with_one_letter_changed_is_forged(place, letter):
    if GOOD[place] == letter:
        return

    with pytest.raises(SignatureError):
        read_token(KEY, GOOD[:place] + letter + GOOD[place + 1 :], now=SystemClock().now())


@given(st.text(max_size=100) | st.binary(max_size=100).map(lambda raw: raw.decode("latin-1")))
def test_a_token_made_up_is_forged(text):
    with pytest.raises(SignatureError):
        read_token(KEY, text, now=SystemClock().now())


def test_a_token_of_another_key_is_forged():
    with pytest.raises(SignatureError):
        read_token(b"x" * 32, GOOD, now=SystemClock().now())


def test_tag_and_payload_of_two_tokens_do_not_mix():
    other = mint_token(KEY, Capability("", ("PUT",), 1 << 40, 1 << 40, "8"))

    with pytest.raises(SignatureError):
        read_token(KEY, other.split(".")[0] + "." + GOOD.split(".")[1], now=SystemClock().now())


@pytest.mark.parametrize(
    ("token", "path", "error"),
    [
        ({}, "jobs/8/1/a", DeniedError),
        ({}, "jobs/7/2/a", DeniedError),
        ({}, "jobs/7/1x/a", DeniedError),
        ({"methods": ("GET",)}, "jobs/7/1/a", DeniedError),
        ({"max_bytes": -1}, "jobs/7/1/a", DeniedError),
        ({"life_s": -5}, "jobs/7/1/a", ExpiredError),
        ({"key": b"x" * 32}, "jobs/7/1/a", SignatureError),
    ],
)
def test_a_job_puts_nothing_but_its_own_outputs(service, token, path, error):
    client = StorageClient(service.url, service.token(**token))

    with pytest.raises(error):
        client.put(path, [], size_bytes=0, sha256=EMPTY)

    assert service.storage.list() == []


def test_a_jobs_token_reads_and_lists_nothing(service):
    client = StorageClient(service.url, service.token())
    client.put("jobs/7/1/a", [b"x"], size_bytes=1, sha256=hashlib.sha256(b"x").hexdigest())

    for verb in (
        client.list,
        lambda: client.list("jobs/7/1"),
        lambda: list(client.get("jobs/7/1/a")),
        lambda: client.delete("jobs/7/1/a"),
    ):
        with pytest.raises(DeniedError):
            verb()


def test_a_token_never_shows(service, caplog):
    token = service.token(life_s=-5)
    client = StorageClient(service.url, token)

    with pytest.raises(CvmError) as caught:
        client.stat("jobs/7/1/a")

    assert token not in f"{caught.value} {caught.value.advice} {client!r} {caplog.text}"
