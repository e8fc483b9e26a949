"""The object store in a bucket.

A write counts when the server says afterwards, asked anew, that the object is there with its size and checksum: servers
have acknowledged what they then did not have. Root documents are replaced only by who holds the store, and only over
the very bytes that stood when it took hold, by a condition where the server heeds them.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from botocore import exceptions as boto_errors

from cernvm.core.errors import (
    DeadlineError,
    HostError,
    LeaseLostError,
    NotFoundError,
    UnavailableError,
)
from cernvm.core.retry import backoff_s
from cernvm.fs.format.objects import MANIFEST_PATH, REFLOG_PATH, WHITELIST_PATH
from cernvm.fs.store.headers import cache_control, content_type
from cernvm.fs.store.lease import LEASE_S, SETTLE_S, Lease
from cernvm.fs.store.names import TEMPORARY, check_path
from cernvm.fs.store.parts import MAX_PART_BYTES, MemoryParts, Parts
from cernvm.fs.store.port import DELETED_AT_ONCE, ObjectStatus
from cernvm.fs.store.s3.connecting import connect
from cernvm.fs.store.s3.errors import is_missing, is_refused_condition, translate
from cernvm.fs.store.s3.parts import S3Parts
from cernvm.fs.store.s3.seat import S3Seat
from cernvm.fs.store.s3.settings import S3Settings

T = TypeVar("T")

_BLOCK_BYTES = 1 << 20
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 10.0
_NO_SUCH_PART = 416  # also of an object without a byte
_REPLACED = (MANIFEST_PATH, REFLOG_PATH, WHITELIST_PATH)
_MD5 = frozenset("0123456789abcdef")


class S3Store:
    """An `ObjectStore` below `prefix` in a bucket; each process has `settings.lanes` connections to it."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        settings: S3Settings,
        *,
        location: str,
    ) -> None:
        self.location = location
        self.lanes = settings.lanes
        self.bucket = bucket
        self.prefix = prefix
        self.settings = settings
        self.lease_s, self.settle_s = LEASE_S, SETTLE_S
        self._where = f"s3://{bucket}/{prefix}"
        self._connecting = threading.Lock()
        self._client: tuple[int, Any] | None = None
        self._lease: Lease | None = None
        self._stood: dict[
            str, str | None
        ] = {}  # the tags of root documents, while the store is held
        self._heeds_conditions = False

    def put(self, path: str, data: bytes) -> None:
        self._write(check_path(path), data, {})

    def replace(self, path: str, data: bytes) -> None:
        check_path(path)
        if self._lease is not None:
            self._lease.check()
        if path not in self._stood:
            self._write(path, data, {})
            return
        over = self._stood[path]
        if not self._heeds_conditions and self._tag(path) != over:
            raise self._overtaken(path)
        condition = {"IfNoneMatch": "*"} if over is None else {"IfMatch": over}
        self._stood[path] = self._write(path, data, condition if self._heeds_conditions else {})

    def get(self, path: str) -> bytes:
        key = self._key(check_path(path))

        def read(client: Any) -> bytes:
            return self._body(client.get_object(Bucket=self.bucket, Key=key), path)

        return self._call(read, path)

    def open(self, path: str) -> Parts:
        parts = S3Parts(lambda first: self._get_part(path, first))
        return parts if parts.is_parted else MemoryParts(self.get(path))

    def has(self, path: str) -> bool:
        return self._head(path) is not None

    def status(self, path: str) -> ObjectStatus | None:
        answer = self._head(path)
        if answer is None:
            return None
        return ObjectStatus(int(answer["ContentLength"]), answer["LastModified"].astimezone(UTC))

    def delete(self, *paths: str) -> None:
        keys = iter([self._key(check_path(path)) for path in paths])
        while batch := list(islice(keys, DELETED_AT_ONCE)):
            if self._lease is not None:
                self._lease.check()  # another holder may refer by then to what nobody needed
            self._delete(batch)

    def paths(self, prefix: str = "") -> Iterator[str]:
        return (path for path, _ in self.listing(prefix))

    def listing(self, prefix: str = "") -> Iterator[tuple[str, ObjectStatus]]:
        after = ""
        while rows := self._rows(prefix, after):
            for row in rows:
                path = row["Key"].removeprefix(self._key(""))
                if not path.startswith(f"{TEMPORARY}/"):
                    modified: datetime = row["LastModified"]
                    yield path, ObjectStatus(int(row["Size"]), modified.astimezone(UTC))
            after = rows[-1]["Key"]

    @contextmanager
    def exclusive(self, wait_s: float = 0.0) -> Iterator[None]:
        seat = S3Seat(self._call, self.bucket, self._key(f"{TEMPORARY}/publisher.lock"))
        lease = Lease(seat, store=self._where, lease_s=self.lease_s, settle_s=self.settle_s)
        with lease.held(wait_s):
            self._heeds_conditions = seat.heeds_conditions
            self._stood = {path: self._tag(path) for path in _REPLACED}
            self._lease = lease
            try:
                yield
            finally:
                self._lease, self._stood = None, {}

    def _body(self, answer: dict[str, Any], path: str) -> bytes:
        """What an answer brings, all of it and within the time limit."""
        body, until = answer["Body"], time.monotonic() + self.settings.timeout_s
        blocks = []
        for block in body.iter_chunks(_BLOCK_BYTES):
            blocks.append(block)
            if time.monotonic() > until:
                raise DeadlineError(
                    f"reading {path} of {self._where}", after_s=self.settings.timeout_s
                )
        data = b"".join(blocks)
        if len(data) != int(answer["ContentLength"]):
            raise HostError(self._where, f"it sent a part of {path}")
        return data

    def _get_part(self, path: str, first: int) -> tuple[bytes, int]:
        """What is at `first` of an object, and the size of all of it; -1 where the server gives no parts."""
        wanted = f"bytes={first}-{first + MAX_PART_BYTES - 1}"
        key = self._key(check_path(path))

        def read(client: Any) -> tuple[bytes, int]:
            answer = client.get_object(Bucket=self.bucket, Key=key, Range=wanted)
            total = str(answer.get("ContentRange", "")).rpartition("/")[2]
            is_part = total.isdecimal() and int(answer["ContentLength"]) <= MAX_PART_BYTES
            if not is_part or total == "0":
                answer["Body"].close()
                return b"", -1
            return self._body(answer, path), int(total)

        try:
            return self._call(read, path)
        except HostError as error:
            if error.status != _NO_SUCH_PART:
                raise
            return b"", -1

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    def _rows(self, prefix: str, after: str) -> list[dict[str, Any]]:
        """Up to a thousand objects behind the key `after`, in the order of keys.

        By markers, not by tokens: every server has them, and they never run out.
        """
        place: Any = {
            "Bucket": self.bucket,
            "Prefix": self._key(prefix),
            "Marker": after,
            "MaxKeys": DELETED_AT_ONCE,
        }
        rows: list[dict[str, Any]] = self._call(
            lambda client: client.list_objects(**place).get("Contents", []), prefix
        )
        return rows

    def _head(self, path: str) -> dict[str, Any] | None:
        key = self._key(check_path(path))
        try:
            answer: dict[str, Any] = self._call(
                lambda client: client.head_object(Bucket=self.bucket, Key=key), path
            )
        except NotFoundError as exc:
            if exc.kind != "object":
                raise
            return None
        return answer

    def _tag(self, path: str) -> str | None:
        answer = self._head(path)
        return None if answer is None else str(answer["ETag"])

    def _write(self, path: str, data: bytes, condition: dict[str, str]) -> str:
        """Put an object and see that it is there; returns its tag."""
        checksum = hashlib.md5(data, usedforsecurity=False)
        arguments = {
            "Bucket": self.bucket,
            "Key": self._key(path),
            "Body": data,
            "ContentMD5": base64.b64encode(checksum.digest()).decode(),
            "CacheControl": cache_control(path),
            "ContentType": content_type(path),
            **({"ACL": self.settings.acl} if self.settings.acl else {}),
            **condition,
        }

        def write(client: Any) -> str:
            try:
                tag = str(client.put_object(**arguments)["ETag"])
            except boto_errors.ClientError as exc:
                if not (condition and (is_refused_condition(exc) or is_missing(exc))):
                    raise
                # an earlier attempt whose answer was lost has fulfilled the wish, or somebody else was faster
                tag = self._tag(path) or ""
                if tag.strip('"') != checksum.hexdigest():
                    raise self._overtaken(path) from None
            self._verify(client, path, data, tag, checksum.hexdigest())
            return tag

        return self._call(write, path)

    def _verify(self, client: Any, path: str, data: bytes, tag: str, checksum: str) -> None:
        """See that the server has what it took; `HostError`, to be tried again, if not."""
        if self.settings.verify == "none":
            return
        try:
            found = client.head_object(Bucket=self.bucket, Key=self._key(path))
        except boto_errors.ClientError as exc:
            if not is_missing(exc):
                raise
            raise HostError(self._where, f"it took {path}, and does not have it") from None
        # with encryption by the server's own keys a tag is no MD5, but the same in both answers
        expected = checksum if _is_md5(tag) else tag.strip('"')
        if int(found["ContentLength"]) != len(data) or found["ETag"].strip('"') != expected:
            raise HostError(self._where, f"it took {path}, and has something else")
        if self.settings.verify == "full":
            got = client.get_object(Bucket=self.bucket, Key=self._key(path))["Body"].read()
            if got != data:
                raise HostError(self._where, f"it took {path}, and gives something else")

    def _delete(self, keys: list[str]) -> None:
        chosen = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        try:
            rows = self._call(
                lambda client: client.delete_objects(Bucket=self.bucket, Delete=chosen).get(
                    "Errors", []
                ),
                keys[0],
            )
            left = [str(row["Key"]) for row in rows]
        except HostError as exc:
            if exc.status not in (400, 405, 501):
                raise
            left = keys  # a server without deletion of many
        for key in left:
            self._call(partial(_delete_one, bucket=self.bucket, key=key), key)

    def _call(self, call: Callable[[Any], T], path: str) -> T:
        """Do a request; what may be better next time is tried again, within three times the time limit."""
        waits = backoff_s(initial_s=_FIRST_WAIT_S, maximum_s=_LONGEST_WAIT_S)
        until = time.monotonic() + 3 * self.settings.timeout_s
        for attempt in range(1, self.settings.attempts + 1):
            try:
                return call(self._connected())
            except (
                boto_errors.ClientError,
                boto_errors.BotoCoreError,
                boto_errors.HTTPClientError,
            ) as exc:
                error = translate(
                    exc, where=self._where, path=path, timeout_s=self.settings.timeout_s
                )
            except UnavailableError as exc:
                error = exc
            except (AttributeError, KeyError, TypeError, ValueError) as exc:
                # a head that was cut off lacks what every answer has
                error = HostError(self._where, f"its answer makes no sense ({type(exc).__name__})")
            is_final = attempt == self.settings.attempts or time.monotonic() >= until
            if is_final or not _may_be_better(error):
                raise error
            time.sleep(next(waits))
        raise AssertionError

    def _connected(self) -> Any:
        with self._connecting:
            if self._client is None or self._client[0] != os.getpid():
                self._client = (os.getpid(), connect(self.settings))
            return self._client[1]

    def _overtaken(self, path: str) -> LeaseLostError:
        return LeaseLostError(
            f"{path} of {self._where} was replaced by another publisher",
            advice="nothing was published; look what the other one did, then publish again",
        )


def _delete_one(client: Any, *, bucket: str, key: str) -> None:
    client.delete_object(Bucket=bucket, Key=key)


def _may_be_better(error: Exception) -> bool:
    if isinstance(error, HostError):
        return error.status in (0, 429) or error.status >= 500
    return isinstance(error, DeadlineError)


def _is_md5(tag: str) -> bool:
    text = tag.strip('"')
    return len(text) == 32 and _MD5.issuperset(text)
