"""Reading a repository: nothing reaches a caller that was not verified by its digest or signature.

Values: `Piece` (`pieces.py`), `Failure`, `Why` (`trace.py`). Flow: `open_repository` (`repository.py`) fetches and
verifies the manifest (`trusted.py`), attaches the root catalog, and gives a `Repository`; its `Revision` finds entries
in a tree of catalogs (`tree.py`, `catalog.py`), attached when first needed; `ObjectSource` (`objects.py`) brings every
object through fetcher, digest check and cache. `diagnosis.py` tells why a path could not be read.
"""

from cernvm.fs.reader.catalog import Catalog
from cernvm.fs.reader.diagnosis import explain
from cernvm.fs.reader.objects import ObjectSource
from cernvm.fs.reader.pieces import Elsewhere, Piece, pieces_of, read_pieces
from cernvm.fs.reader.pin import Pin
from cernvm.fs.reader.repository import Repository, open_repository
from cernvm.fs.reader.revision import Revision
from cernvm.fs.reader.settings import ReaderSettings
from cernvm.fs.reader.trace import CatalogState, Failure, ObjectState, Why
from cernvm.fs.reader.tree import Tree

__all__ = [
    "Catalog",
    "CatalogState",
    "Elsewhere",
    "Failure",
    "ObjectSource",
    "ObjectState",
    "Piece",
    "Pin",
    "ReaderSettings",
    "Repository",
    "Revision",
    "Tree",
    "Why",
    "explain",
    "open_repository",
    "pieces_of",
    "read_pieces",
]
