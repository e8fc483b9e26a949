"""What peers say to each other: GETs of objects, in a strict subset of HTTP/1.1. Pure.

Source: docs/formats/peers.md, "Messages".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cernvm.core.errors import FormatError, InvalidInputError
from cernvm.fs.peers.peer import Peer, parse_peer
from cernvm.fs.peers.secret import VALID_S, proof, proves

MAX_QUESTION_BYTES = 4096
MAX_WAIT_S = 1.0
REFERRAL = "cvm-ask"

_QUESTION = re.compile(
    rb"GET (/[\x21-\x7e]{0,512}) HTTP/1\.1\r\n((?:[A-Za-z-]{1,40}: ?[\x20-\x7e]{0,400}\r\n){1,32})\r\n"
)
_PATH = re.compile(
    r"/cvmfs/(?P<repository>[A-Za-z0-9._-]{1,200})/"
    r"(?P<path>data/[0-9a-f]{2}/[0-9a-f]{38}(?:-rmd160|-shake128)?[A-Z]?)"
)
_PROOF = re.compile(r"Cvm-Peer ([0-9]{1,12}) ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Question:
    """One request as it came.

    Shape: `repository` and `path` are empty where it asks for nothing that a peer could have. `port` is where the asker
    says it answers itself, 0: nowhere. `said_at` and `said` are its proof.
    """

    repository: str
    path: str
    host: str
    port: int = 0
    wait_s: float = 0.0
    said_at: int = 0
    said: str = ""


def format_question(
    repository: str,
    path: str,
    peer: Peer,
    *,
    port: int = 0,
    wait_s: float = 0.0,
    secret: bytes | None = None,
    now_s: float = 0.0,
) -> bytes:
    """A request to `peer` for the object at `path`."""
    lines = [
        f"GET /cvmfs/{repository}/{path} HTTP/1.1",
        f"Host: {peer}",
        f"Cvm-Peer: {port}",
        f"Cvm-Wait: {round(wait_s * 1000)}",
    ]
    if secret is not None:
        said_at = str(int(now_s))
        said = proof(secret, "get", said_at, str(peer), repository, path)
        lines.append(f"Authorization: Cvm-Peer {said_at} {said}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def parse_question(head: bytes) -> Question:
    """The request that `head` is, its last empty line included. Errors: `FormatError` for what is no plain GET."""
    matched = _QUESTION.fullmatch(head)
    if matched is None:
        raise FormatError("is no plain GET", where="a peer's question")
    headers: dict[str, str] = {}
    for line in matched[2].decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        if headers.setdefault(name.lower(), value := value.strip(" ")) != value:
            raise FormatError("says a thing twice", where="a peer's question")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise FormatError("has a body", where="a peer's question")
    asked = _PATH.fullmatch(matched[1].decode("ascii"))
    said = _PROOF.fullmatch(headers.get("authorization", ""))
    port = _number(headers.get("cvm-peer", "0"))
    return Question(
        asked["repository"] if asked else "",
        asked["path"] if asked else "",
        headers.get("host", ""),
        port if port < 65536 else 0,
        min(_number(headers.get("cvm-wait", "0")) / 1000, MAX_WAIT_S),
        int(said[1]) if said else 0,
        said[2] if said else "",
    )


def is_proven(question: Question, secret: bytes, own: Peer, now_s: float) -> bool:
    """Whether whoever asks has the secret, asks us, and does so now."""
    words = ("get", str(question.said_at), str(own), question.repository, question.path)
    is_timely = abs(now_s - question.said_at) <= VALID_S
    return proves(secret, question.said, *words) and is_timely


def format_answer(
    status: int, reason: str, length_bytes: int = 0, ask: Peer | None = None
) -> bytes:
    """The head of an answer; one that refuses may name a peer that will know better."""
    text = f"HTTP/1.1 {status} {reason}\r\nContent-Length: {length_bytes}\r\n"
    if ask is not None:
        text += f"Cvm-Ask: {ask}\r\n"
    return (text + "\r\n").encode("ascii")


def parse_referral(text: str) -> Peer | None:
    """The peer that an answer names; None for anything that is none."""
    try:
        return parse_peer(text, 0)
    except InvalidInputError:
        return None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise FormatError("has no number where one belongs", where="a peer's question")
    return int(text)
