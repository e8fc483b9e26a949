"""What a repository says of itself: a JSON object that the manifest names.

Source: docs/formats/repository.md, "Metainfo".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import read_manifest, write_object, write_revision
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.reading import read_object, read_tags

MAX_BYTES = 64 << 10  # what readers hand on
_TEXTS = ("administrator", "email", "organisation", "description", "url", "recommended-stratum0")
_LISTS = ("recommended-stratum1s",)


def parse_metainfo(data: bytes) -> dict[str, Any]:
    """The metainfo in a file.

    Errors: `InvalidInputError` for what is no JSON object, too large, or has a usual key of another kind.
    """
    if len(data) > MAX_BYTES:
        raise InvalidInputError(f"metainfo is larger than {MAX_BYTES} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError(f"metainfo is no JSON: {exc}") from None
    if not isinstance(found, dict):
        raise InvalidInputError("metainfo is no JSON object", advice='begin with {"administrator":')
    for key, value in found.items():
        is_text = isinstance(value, str)
        is_list = isinstance(value, list) and all(isinstance(one, str) for one in value)
        if (key in _TEXTS and not is_text) or (key in _LISTS and not is_list):
            kind = "a text" if key in _TEXTS else "a list of texts"
            raise InvalidInputError(f"{key} of the metainfo is not {kind}")
    return found


def read_metainfo(manifest: Manifest, store: ObjectStore) -> dict[str, Any] | None:
    """What the revision says of its repository; None where it says nothing."""
    if manifest.metainfo is None:
        return None
    return parse_metainfo(read_object(store, manifest.metainfo, ObjectKind.METAINFO))


def publish_metainfo(
    repository: Repository,
    store: ObjectStore,
    metainfo: Mapping[str, Any] | None,
    *,
    clock: Clock | None = None,
) -> Manifest:
    """Have the last revision say this, or nothing, of its repository; it stays the same revision.

    Errors: `TransactionOpenError` while another publisher is at work, `InvalidInputError` for what is too large.
    """
    now = (clock or SystemClock()).now()
    with store.exclusive():
        previous = read_manifest(repository, store)
        digest = None
        if metainfo is not None:
            data = json.dumps(metainfo, ensure_ascii=False, indent=1).encode()
            parse_metainfo(data)
            digest = write_object(repository, store, data, ObjectKind.METAINFO).digest
        signed, _ = write_revision(
            repository,
            store,
            replace(previous, metainfo=digest),
            tags=read_tags(previous, store) if previous.history is not None else None,
            previous=previous,
            now=now,
        )
    return signed
