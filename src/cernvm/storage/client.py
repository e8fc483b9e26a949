"""The storage as its users reach it: an `ObjectStorage` over HTTP, with deadlines that a slow server cannot stretch.

Light on purpose: it runs in instances too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from urllib.parse import quote, urlsplit

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, HostError, InvalidInputError
from cernvm.storage.exchange import Answer, exchange
from cernvm.storage.port import Stat, check_object_path, check_sha256, checked
from cernvm.storage.problems import from_problem

SILENCE_S = 60.0
SLOWEST_BYTES_S = 20_000
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_PROBLEM_BYTES = 64 * 1024


class StorageClient:
    """One storage service, used with one token (which never prints)."""

    def __init__(self, url: str, token: str, *, silence_s: float = SILENCE_S) -> None:
        self._origin = _origin(url)
        self._url = url.rstrip("/")
        self._token = token
        self._silence_s = silence_s

    def __repr__(self) -> str:
        return f"StorageClient({self._url})"

    def put(self, path: str, blocks: Iterable[bytes], *, size_bytes: int, sha256: str) -> Stat:
        check_object_path(path)
        check_sha256(sha256)
        headers = {
            "Content-Length": str(size_bytes),
            "Content-Type": "application/octet-stream",
            "X-Checksum-Sha256": sha256,
        }
        body = checked(blocks, path=path, size_bytes=size_bytes, sha256=sha256)
        with self._request(
            "PUT", path, size_bytes=size_bytes, headers=headers, body=body
        ) as answer:
            return _to_stat(self._read_json(answer, MAX_PROBLEM_BYTES))

    def get(self, path: str) -> Iterator[bytes]:
        return self._content(self.stat(path))

    def stat(self, path: str, *, verify: bool = False) -> Stat:
        check_object_path(path)
        query = "?verify=1" if verify else ""
        with self._request("HEAD", path, query=query) as answer:
            row = {
                "path": path,
                "size_bytes": answer.headers.get("content-length", ""),
                "sha256": answer.headers.get("x-checksum-sha256", ""),
                "stored_at": answer.headers.get("x-stored-at", ""),
            }
            return _to_stat(row)

    def list(self, prefix: str = "") -> list[Stat]:
        if prefix:
            check_object_path(prefix)
        query = f"?prefix={quote(prefix)}"
        with self._request("GET", "", query=query, size_bytes=MAX_ANSWER_BYTES) as answer:
            document = self._read_json(answer, MAX_ANSWER_BYTES)
        rows = document.get("objects") if isinstance(document, dict) else None
        if not isinstance(rows, list):
            raise HostError(self._url, "its listing makes no sense")
        return [_to_stat(row) for row in rows]

    def delete(self, path: str) -> None:
        with self._request("DELETE", check_object_path(path)):
            pass

    def _content(self, stat: Stat) -> Iterator[bytes]:
        path, size_bytes, sha256 = stat.path, stat.size_bytes, stat.sha256
        with self._request("GET", path, size_bytes=size_bytes) as answer:
            yield from checked(answer.blocks(), path=path, size_bytes=size_bytes, sha256=sha256)

    @contextmanager
    def _request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        size_bytes: int = 0,
        headers: dict[str, str] | None = None,
        body: Iterable[bytes] | None = None,
    ) -> Iterator[Answer]:
        """One exchange with time for `size_bytes` to pass. Errors: what the server's problem document means."""
        target = f"/v1/objects/{quote(path)}" if path else "/v1/objects"
        with exchange(
            method,
            self._origin,
            target + query,
            deadline=Deadline.after(self._silence_s + size_bytes / SLOWEST_BYTES_S),
            silence_s=self._silence_s,
            headers={"Authorization": f"Bearer {self._token}", **(headers or {})},
            body=body,
        ) as answer:
            if not 200 <= answer.status < 300:
                raise self._problem(answer, path)
            yield answer

    def _problem(self, answer: Answer, path: str) -> CvmError:
        document: object = None
        if (in_header := answer.headers.get("x-problem")) is not None:
            document = self._parse_json(in_header)
        elif answer.headers.get("content-type") == "application/problem+json":
            document = self._read_json(answer, MAX_PROBLEM_BYTES)
        return from_problem(document, status=answer.status, url=self._url, path=path)

    def _read_json(self, answer: Answer, limit_bytes: int) -> object:
        received = bytearray()
        for block in answer.blocks():
            received += block
            if len(received) > limit_bytes:
                raise HostError(self._url, f"its answer has more than {limit_bytes} bytes")
        return self._parse_json(received)

    def _parse_json(self, text: str | bytearray) -> object:
        try:
            document: object = json.loads(text)
        except (ValueError, RecursionError):
            raise HostError(self._url, "its answer is no JSON") from None
        return document


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname and not parts.path.strip("/") and parts.port:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"http://{host}:{parts.port}"
    except ValueError:
        pass  # a port that is no number, or a broken bracket
    raise InvalidInputError(f"{url!r} is no storage URL", advice="write http://host:port")


def _to_stat(row: object) -> Stat:
    known = row if isinstance(row, dict) else {}
    try:
        return Stat(
            check_object_path(str(known.get("path"))),
            int(known.get("size_bytes", "")),
            check_sha256(str(known.get("sha256"))),
            datetime.fromisoformat(str(known.get("stored_at"))),
        )
    except (TypeError, ValueError, InvalidInputError):
        raise HostError("storage", "its answer makes no sense") from None
