"""Opening a store by its location: a folder, or an address whose scheme names the adapter.

The location is all that another process needs: what an adapter wants besides (endpoint, keys) lies in a private file,
which the location's query names: `s3://BUCKET/PREFIX?config=/absolute/file`. Format: docs/formats/stores.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from cernvm.core.errors import InvalidInputError, PrerequisiteError
from cernvm.fs.store.local import LocalStore
from cernvm.fs.store.port import ObjectStore

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_PREFIX = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*)?")


def open_store(location: str) -> ObjectStore:
    """The store at a location; nothing is asked of it yet.

    Errors: `InvalidInputError` for one that is no absolute folder and names no adapter, `PrerequisiteError` without
    the adapter's library, and those of reading its file.
    """
    scheme, separator, _ = location.partition("://")
    if not separator:
        if not location.startswith("/"):
            raise InvalidInputError(f"{location!r} is no store", advice="write an absolute folder")
        return LocalStore(Path(location))
    try:
        if scheme in ("http", "https"):
            return _open_web(location)
        if scheme == "s3":
            return _open_s3(location)
        if scheme.startswith("fsspec+"):
            return _open_fsspec(location)
    except ImportError as exc:
        raise PrerequisiteError(
            f"{location.partition('?')[0]} needs a Python module: {exc}",
            advice="install the extra that has it: pip install 'cernvm[s3]' or 'cernvm[fsspec]'",
        ) from None
    raise InvalidInputError(
        f"there is no kind of store {scheme!r}",
        advice="write a folder, s3://… or fsspec+PROTOCOL://…",
    )


def location_of(store: str, *, config: Path | None, name: str) -> str:
    """The location that a person means by an address and a file; a bucket alone holds a repository below its name."""
    if config is not None and "?" in store:
        raise InvalidInputError(f"{store} names a file already")
    split = urlsplit(store)
    if split.scheme == "s3" and not split.path.strip("/"):
        store = f"s3://{split.netloc}/{name}"
    return store if config is None else f"{store}?config={quote(str(config.absolute()))}"


def _open_web(location: str) -> ObjectStore:
    from cernvm.fs.store.web import WebStore  # noqa: PLC0415  # brings the network

    return WebStore(location.rstrip("/"))


def _open_s3(location: str) -> ObjectStore:
    from cernvm.fs.store.s3.settings import read_settings  # noqa: PLC0415  # boto3 takes half a second
    from cernvm.fs.store.s3.store import S3Store  # noqa: PLC0415

    address, config = _parts(location)
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket) or not _PREFIX.fullmatch(prefix):
        raise InvalidInputError(
            f"{address!r} is no bucket and prefix", advice="write s3://BUCKET/PREFIX"
        )
    return S3Store(bucket, prefix, read_settings(config, bucket=bucket), location=location)


def _open_fsspec(location: str) -> ObjectStore:
    from cernvm.fs.store.fsspec_store import FsspecStore, read_options  # noqa: PLC0415  # optional

    address, config = _parts(location)
    return FsspecStore(address.removeprefix("fsspec+"), read_options(config), location=location)


def _parts(location: str) -> tuple[str, Path | None]:
    """The address, and the file that the query names."""
    address, _, query = location.partition("?")
    chosen = parse_qs(query, keep_blank_values=True)
    config = chosen.pop("config", [])
    if chosen or len(config) > 1:
        raise InvalidInputError(f"{location!r}: only one config=FILE may follow the question mark")
    return unquote(address), Path(config[0]) if config else None
