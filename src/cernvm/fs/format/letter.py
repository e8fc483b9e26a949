"""The container of manifest and whitelist: lines of text, their digest, a signature.

Shape: ASCII lines, each ended by a newline; a line `--`; the digest of all bytes before that line as hex with tag; a
newline; then the raw signature to the end.
Source: docs/formats/repository.md, "Letters".
"""

from __future__ import annotations

from dataclasses import dataclass

from cernvm.core.digest import Algorithm, Digest, parse_digest
from cernvm.core.errors import DigestMismatchError, FormatError, LetterFormatError

MAX_LETTER_BYTES = 1 << 20
_SEPARATOR = b"--\n"


@dataclass(frozen=True, slots=True)
class Letter:
    """Text whose digest is right; its signature is not checked yet.

    Shape: `text` ends with a newline; `signature` covers `signed_text`, the text of the digest, not `text` itself.
    """

    text: str
    digest: Digest
    signature: bytes

    @property
    def signed_text(self) -> bytes:
        """What the signature covers: the digest as it is written."""
        return str(self.digest).encode()


def parse_letter(data: bytes, *, where: str) -> Letter:
    """Take a letter apart and check its digest; `where` names the document in errors.

    Errors: `LetterFormatError`; `DigestMismatchError` when text and digest differ.
    """
    if len(data) > MAX_LETTER_BYTES:
        raise LetterFormatError(f"it is larger than {MAX_LETTER_BYTES} bytes", where=where)
    at = 0 if data.startswith(_SEPARATOR) else data.find(b"\n" + _SEPARATOR) + 1
    if at == 0:
        raise LetterFormatError("no line '--' ends the text", where=where)
    body, tail = data[:at], data[at + len(_SEPARATOR) :]
    digest_line, newline, signature = tail.partition(b"\n")
    if not newline or not signature:
        raise LetterFormatError("it carries no signature", where=where)
    try:
        text = body.decode("ascii")
        digest = parse_digest(digest_line.decode("ascii"))
    except (UnicodeDecodeError, FormatError) as exc:
        raise LetterFormatError(f"not a letter's text: {exc}", where=where) from exc
    got = digest.algorithm.digest(body)
    if got != digest:
        raise DigestMismatchError(expected=str(digest), got=str(got), source=where)
    return Letter(text, digest, signature)


def letter_digest(text: str, algorithm: Algorithm) -> Digest:
    """The digest under which `text` is signed."""
    return algorithm.digest(text.encode("ascii"))


def format_letter(letter: Letter) -> bytes:
    """The letter as it is served."""
    return letter.text.encode("ascii") + _SEPARATOR + letter.signed_text + b"\n" + letter.signature
