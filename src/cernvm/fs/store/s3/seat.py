"""The record of who holds a repository in a bucket.

Whether the server heeds conditions is found out once, by one that cannot hold: a server that writes nevertheless
does not know them.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as boto_errors

from cernvm.core.errors import NotFoundError
from cernvm.fs.store.lease import Seen
from cernvm.fs.store.s3.errors import code_of, is_missing, is_refused_condition

Call = Callable[[Callable[[Any], Any], str], Any]

_LONGEST_RECORD_BYTES = 4096


class S3Seat:
    """A `Seat` at a key of a bucket; `call` does a request and translates its errors."""

    def __init__(self, call: Call, bucket: str, key: str) -> None:
        self._call = call
        self._place = {"Bucket": bucket, "Key": key}
        self._heeds: bool | None = None

    @property
    def heeds_conditions(self) -> bool:
        return bool(self._heeds)

    def look(self) -> Seen | None:
        try:
            answer = self._call(lambda client: _read(client, self._place), self._place["Key"])
        except NotFoundError as exc:
            if exc.kind != "object":
                raise
            return None
        data, headers = answer
        said = headers["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        now = parsedate_to_datetime(said) if said else headers["LastModified"]
        return Seen(data, headers["ETag"], (now - headers["LastModified"]).total_seconds())

    def take(self, data: bytes, over: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if over is None else {"IfMatch": over}
        tag = self._write(data, {} if self._heeds is False else condition)
        if tag is not None and self._heeds is None:
            again = self._write(data, {"IfNoneMatch": "*"})
            self._heeds = again is None
            tag = again or tag
        return tag

    def leave(self) -> None:
        self._call(lambda client: client.delete_object(**self._place), self._place["Key"])

    def _write(self, data: bytes, condition: dict[str, str]) -> str | None:
        def write(client: Any) -> str | None:
            try:
                answer = client.put_object(
                    **self._place, Body=data, CacheControl="no-store", **condition
                )
            except boto_errors.ClientError as exc:
                if condition and (is_refused_condition(exc) or is_missing(exc)):
                    return None
                if condition and code_of(exc) == "NotImplemented":
                    self._heeds = False
                    answer = client.put_object(**self._place, Body=data, CacheControl="no-store")
                    return str(answer["ETag"])
                raise
            return str(answer["ETag"])

        found: str | None = self._call(write, self._place["Key"])
        return found


def _read(client: Any, place: dict[str, str]) -> tuple[bytes, dict[str, Any]]:
    answer = client.get_object(**place)
    with answer["Body"] as body:
        return body.read(_LONGEST_RECORD_BYTES), answer
