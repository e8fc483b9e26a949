"""The storage as its users reach it: an `ObjectStorage` over HTTP, with deadlines that a slow server cannot stretch.

Light on purpose: it runs in instances too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from urllib.parse import quote, urlsplit

import urllib3

from cernvm.core.errors import CvmError, DeadlineError, HostError, InvalidInputError
from cernvm.storage.port import BLOCK_BYTES, Stat, check_object_path, check_sha256, checked
from cernvm.storage.problems import from_problem

CONNECT_S = 10.0
SILENCE_S = 60.0
SLOWEST_BYTES_S = 20_000
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class StorageClient:
    """One storage service, used with one token (which never prints)."""

    def __init__(self, url: str, token: str, *, silence_s: float = SILENCE_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInputError(f"{url!r} is no storage URL", advice="write http://host:port")
        self._url = url.rstrip("/")
        self._token = token
        self._silence_s = silence_s
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=min(CONNECT_S, silence_s), read=silence_s),
            retries=False,
            maxsize=4,
        )

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
        end = self._end(size_bytes)
        announced = checked(blocks, path=path, size_bytes=size_bytes, sha256=sha256)
        body = _until(end, announced, action=f"sending {path}")
        with self._request("PUT", path, headers=headers, body=body) as answer:
            return _to_stat(_read_json(answer, self._url, end))

    def get(self, path: str) -> Iterator[bytes]:
        stat = self.stat(path)
        return self._content(stat)

    def stat(self, path: str, *, verify: bool = False) -> Stat:
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
        with self._request("GET", "", query=f"?prefix={quote(prefix)}") as answer:
            document = _read_json(answer, self._url, self._end(MAX_ANSWER_BYTES))
        rows = document.get("objects") if isinstance(document, dict) else None
        if not isinstance(rows, list):
            raise HostError(self._url, "its listing makes no sense")
        return [_to_stat(row) for row in rows]

    def delete(self, path: str) -> None:
        with self._request("DELETE", path):
            pass

    def _content(self, stat: Stat) -> Iterator[bytes]:
        path, end = stat.path, self._end(stat.size_bytes)
        with self._request("GET", path) as answer, self._our_errors():
            blocks = _until(end, answer.stream(BLOCK_BYTES), action=f"receiving {path}")
            yield from checked(blocks, path=path, size_bytes=stat.size_bytes, sha256=stat.sha256)

    @contextmanager
    def _request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: dict[str, str] | None = None,
        body: Iterable[bytes] | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        place = f"/v1/objects/{quote(check_object_path(path))}" if path else "/v1/objects"
        with self._our_errors():
            answer = self._pool.request(
                method,
                f"{self._url}{place}{query}",
                headers={"Authorization": f"Bearer {self._token}", **(headers or {})},
                body=body,
                preload_content=False,
                redirect=False,
            )
        try:
            if not 200 <= answer.status < 300:
                raise self._problem(answer, path)
            yield answer
        finally:
            answer.close()  # an answer that was read to its end has given its connection back already

    def _problem(self, answer: urllib3.BaseHTTPResponse, path: str) -> CvmError:
        if (in_header := answer.headers.get("x-problem")) is not None:
            document = _parse_json(in_header, self._url)
        elif answer.headers.get("content-type", "") == "application/problem+json":
            document = _read_json(answer, self._url, self._end(0))
        else:
            document = None
        return from_problem(document, status=answer.status, url=self._url, path=path)

    @contextmanager
    def _our_errors(self) -> Iterator[None]:
        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise HostError(
                self._url, str(reason)[:300], advice="check that the storage runs"
            ) from error
        except OSError as error:
            raise HostError(self._url, str(error), advice="check that the storage runs") from error

    def _end(self, size_bytes: int) -> float:
        return time.monotonic() + self._silence_s + size_bytes / SLOWEST_BYTES_S


def _until(end: float, blocks: Iterable[bytes], *, action: str) -> Iterator[bytes]:
    started = time.monotonic()
    for block in blocks:
        if time.monotonic() > end:
            raise DeadlineError(action, after_s=round(end - started, 1))
        yield block


def _read_json(answer: urllib3.BaseHTTPResponse, url: str, end: float) -> object:
    received = bytearray()
    for block in _until(end, answer.stream(BLOCK_BYTES), action=f"reading the answer of {url}"):
        received += block
        if len(received) > MAX_ANSWER_BYTES:
            raise HostError(url, "its answer is too large")
    return _parse_json(received, url)


def _parse_json(text: str | bytearray, url: str) -> object:
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        raise HostError(url, "its answer is no JSON") from None
    return document


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
