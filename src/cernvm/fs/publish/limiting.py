"""What readers of other makes are known to bear: larger catalogs and files are told, or refused."""

from __future__ import annotations

import logging

from cernvm.core.errors import InvalidInputError
from cernvm.core.log import fields
from cernvm.fs.format.statistics import Counters

log = logging.getLogger(__name__)

MOST_ROOT_ENTRIES = 200_000
MOST_NESTED_ENTRIES = 500_000
MOST_FILE_BYTES = 1 << 30


def check_catalog(prefix: bytes, own: Counters, *, is_strict: bool) -> None:
    """Look at a catalog that is about to be written. Errors: `InvalidInputError` naming it, where it is strict."""
    count = own.regular + own.symlink + own.special + own.dir
    if count <= (MOST_NESTED_ENTRIES if prefix else MOST_ROOT_ENTRIES):
        return
    path = prefix.decode("utf-8", "replace") or "/"
    if is_strict:
        raise InvalidInputError(
            f"the catalog of {path} has {count} entries",
            advice="put .cvmfscatalog into some of its directories, or set limits=false",
        )
    log.warning("catalog.large", extra=fields(path=path, entries=count))
