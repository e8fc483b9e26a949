import base64
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.context.encoding import MAX_TEXT_BYTES, unwrap
from cernvm.core.errors import ContextFormatError

TEXT = "[cernvm]\nusers = a:a:\n# é\n"
WRAPS = {"gzip": gzip.compress, "base64": base64.encodebytes}


@given(st.lists(st.sampled_from(sorted(WRAPS)), max_size=4))
def test_takes_off_what_was_put_on(layers):
    data = TEXT.encode()
    for layer in reversed(layers):
        data = WRAPS[layer](data)

    unwrapped = unwrap(data)

    assert unwrapped.text == TEXT
    assert list(unwrapped.layers) == layers


@pytest.mark.parametrize("text", ["", "hello", "organisations", "[cernvm]", "QUJDREVGR0g="])
def test_text_that_only_looks_like_base64_stays(text):
    assert unwrap(text.encode()).text == text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(TEXT.encode())[:-3], "ends too early"),
        (gzip.compress(TEXT.encode())[:12], "ends too early"),
        (b"\x1f\x8b\x08garbage.......", "damaged gzip"),
        (gzip.compress(bytes(10**7)), "larger than"),
        (b"a" * (MAX_TEXT_BYTES + 1), "larger than"),
        (b"[cernvm]\n\xff", "line 2: not UTF-8"),
    ],
)
def test_damaged_and_oversized_data_are_refused(data, reason):
    with pytest.raises(ContextFormatError, match=reason):
        unwrap(data)


def test_a_bomb_of_many_layers_is_refused():
    data = TEXT.encode()
    for _ in range(6):
        data = gzip.compress(data)

    with pytest.raises(ContextFormatError, match="more than 4 times"):
        unwrap(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_refused(data):
    try:
        unwrap(data)
        unwrap(b"\x1f\x8b\x08\0" + data)
    except ContextFormatError:
        pass
