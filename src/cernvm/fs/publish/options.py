"""What one publication is asked to do, and what it tells that it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cernvm.core.digest import Digest
from cernvm.fs.publish.entries import Owner
from cernvm.fs.publish.profiles import WrittenProfile

if TYPE_CHECKING:  # the values of a difference, not all that finds one
    from cernvm.fs.survey.difference import Change as Difference


@dataclass(frozen=True, slots=True)
class Options:
    """How one revision is published; what holds for all of a repository's is in its settings.

    Shape: `at` and `owner` are about trees and archives; `base` is the root catalog that is changed, the last
    revision's if None (a rollback names an older one); an empty `tag` is an automatic one; a publication that
    `is_thorough` reads all files, stores again what the store lost, and writes all catalogs;
    `workers` None for one on each core; `within_transaction` is for what the open transaction's owner
    does; with `rehearse`, which is told each difference, nothing is written.
    Units: `wait_s` is how long another publisher may still hold the store.
    """

    at: str = "/"
    tag: str = ""
    description: str = ""
    owner: Owner | None = None
    base: Digest | None = None
    is_thorough: bool = False
    workers: int | None = None
    wait_s: float = 0.0
    within_transaction: bool = False
    rehearse: Callable[[Difference], None] | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication did; not `is_new` where nothing changed, and the last revision stands.

    Units: `files` are regular files of the tree; `read_bytes` their content; `stored_bytes` new objects as stored.
    """

    name: str
    revision: int
    root_catalog: Digest
    tags: tuple[str, ...]
    files: int
    read_bytes: int
    stored_objects: int
    stored_bytes: int
    catalogs: int
    took_s: float
    profiles: tuple[WrittenProfile, ...] = ()
    is_new: bool = True
