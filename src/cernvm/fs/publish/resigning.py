"""A whitelist signed anew where only the master key is: a machine that knows nothing of the repository."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cernvm.core.errors import InvalidInputError, NotFoundError
from cernvm.core.home import write_atomically
from cernvm.fs.format.letter import MAX_LETTER_BYTES, parse_letter
from cernvm.fs.format.whitelist import Whitelist, parse_whitelist
from cernvm.fs.publish.keys import Keys
from cernvm.fs.publish.master import open_master
from cernvm.fs.publish.signing import sign_whitelist


def resign_whitelist(path: Path, master_key: str, *, now: datetime, days: int) -> Whitelist:
    """Replace a whitelist's file by one that lists the same certificates from now on; returns it.

    Shape: `master_key` as `open_master` takes it; empty: `NAME.masterkey` beside the file.
    Errors: `NotFoundError`, `LetterFormatError`; those of the master key; `InvalidInputError` for a whitelist with
    demands, which this format cannot keep.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LETTER_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError("whitelist", str(path)) from None
    letter = parse_letter(data, where=str(path))
    old = parse_whitelist(letter.text)
    if old.options:
        raise InvalidInputError(f"the whitelist demands {old.options[0][:40]!r}; it is not signed")
    signed = sign_whitelist(
        name=old.name,
        fingerprints=old.fingerprints,
        master=open_master(master_key, Keys(path.parent, old.name)),
        algorithm=letter.digest.algorithm,
        now=now,
        days=days,
    )
    write_atomically(path, signed)
    return parse_whitelist(parse_letter(signed, where=str(path)).text)
