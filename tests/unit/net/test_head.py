import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import FormatError
from cernvm.net.head import parse_chunk_line, parse_head


def head(*lines, status="HTTP/1.1 200 OK"):
    return parse_head("".join(f"{line}\r\n" for line in (status, *lines, "")).encode("latin-1"))


def test_a_head_tells_how_its_body_ends():
    answer = head("Content-Length: 12", "Content-Type: text/plain")

    assert (answer.status, answer.length_bytes, answer.is_chunked) == (200, 12, False)
    assert answer.headers["content-type"] == "text/plain"
    assert answer.keeps_open


def test_without_a_length_the_body_ends_with_the_connection():
    answer = head("Server: x")

    assert (answer.length_bytes, answer.keeps_open) == (None, False)


@pytest.mark.parametrize(
    ("status", "lines", "keeps_open"),
    [
        ("HTTP/1.1 200 OK", [], True),
        ("HTTP/1.1 200 OK", ["Connection: close"], False),
        ("HTTP/1.1 200 OK", ["Connection: Keep-Alive, Close"], False),
        ("HTTP/1.0 200 OK", [], False),
        ("HTTP/1.0 200 OK", ["Connection: keep-alive"], True),
    ],
)
def test_a_connection_stays_open_if_both_sides_mean_it(status, lines, keeps_open):
    assert head("Content-Length: 0", *lines, status=status).keeps_open is keeps_open


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_never_have_a_body(status):
    assert head("Content-Length: 5", status=f"HTTP/1.1 {status} x").length_bytes == 0


@pytest.mark.parametrize("status", ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 Alles gut"])
def test_the_reason_may_be_missing(status):
    assert head("Content-Length: 0", status=status).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: -5"],
        ["Content-Length: 0x5"],
        ["Content-Length: \xb2"],
        ["Content-Length: 5 5"],
        ["Content-Length: "],
        ["Content-Length: " + "9" * 19],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: xchunked"],
        ["X: a", " folded"],
        ["X: a", "\tfolded"],
        [" X: a"],
        ["X : a"],
        [": a"],
        ["no colon"],
        ["X: a\x00b"],
        ["X: a\nY: b"],
        ["X: a\rY: b"],
        ["X\x7f: a"],
        ["Content-Range: bytes 0-1/2", "Content-Range: bytes 0-2/3"],
        ["Location: http://a", "Location: http://b"],
    ],
)
def test_a_head_that_two_readers_could_understand_differently_is_refused(lines):
    with pytest.raises(FormatError):
        head(*lines)


@pytest.mark.parametrize(
    "status",
    [
        "HTTP/2 200 OK",
        "HTTP/1.2 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000",
        "HTTP/1.1 600 x",
        "HTTP/1.1 000 x",
        "HTTP/1.1 +20 x",
        "ICY 200 OK",
        "",
    ],
)
def test_what_is_no_status_line_is_refused(status):
    with pytest.raises(FormatError):
        head(status=status)


def test_old_servers_send_no_chunks():
    with pytest.raises(FormatError):
        head("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_refused(data):
    try:
        parse_head(data)
    except FormatError:
        return
    assert data.endswith(b"\r\n\r\n")


NAMES = st.from_regex(r"[A-Za-z0-9-]{1,12}", fullmatch=True).filter(
    lambda name: (
        name.lower() not in {"content-length", "transfer-encoding", "content-range", "location"}
    )
)
VALUES = st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True)


@given(st.dictionaries(NAMES.map(str.lower), VALUES, max_size=6), st.integers(0, 10**15))
def test_what_was_written_is_read(headers, length):
    answer = head(*[f"{n}: {v}" for n, v in headers.items()], f"Content-Length:{length}")

    assert answer.headers == {**headers, "content-length": str(length)}
    assert answer.length_bytes == length


@pytest.mark.parametrize(
    ("line", "size"), [(b"0\r\n", 0), (b"1f\r\n", 31), (b"A;ext=1\r\n", 10), (b"5 \r\n", 5)]
)
def test_a_chunk_says_its_size(line, size):
    assert parse_chunk_line(line) == size


@pytest.mark.parametrize(
    "line", [b"\r\n", b"-1\r\n", b"0x5\r\n", b"g\r\n", b"1_0\r\n", b" 5\r\n", b"f" * 13 + b"\r\n"]
)
def test_a_chunk_of_no_size_is_refused(line):
    with pytest.raises(FormatError):
        parse_chunk_line(line)
