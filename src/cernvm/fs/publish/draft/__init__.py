"""The next revision's tree while it is being made: the last one's, or any other's, with changes.

Flow: `open_draft` → `Draft.find`, `listing`, `put`, `remove`, `copy` … in any order → `Draft.finish`, which stores the
catalogs that changed, and no others. Catalogs (`catalogs`, brought by `fetching` and `loading`, their rows in `rows`)
are files in a `workshop` folder, read when a path in them is touched: memory does not grow with the number of paths.
`tree` is what is read of them. `splitting` moves rows between catalogs, `weighing` decides where one is too heavy,
`finishing` counts, packs and stores.
"""

from cernvm.fs.publish.draft.drafting import Draft
from cernvm.fs.publish.draft.finishing import Finished
from cernvm.fs.publish.draft.opening import open_draft
from cernvm.fs.publish.draft.tree import Tree
from cernvm.fs.publish.draft.weighing import CatalogLimits

__all__ = ["CatalogLimits", "Draft", "Finished", "Tree", "open_draft"]
