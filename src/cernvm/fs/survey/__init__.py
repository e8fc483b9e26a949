"""What lies in a repository's store, from the server's side: revisions as values, walked, compared, checked, collected.

Values: `database` (catalog, history and reflog files as values), `marks` (sets of objects larger than memory). Flow:
`reading` (objects of an `ObjectStore`) → `references` (what a catalog needs) → `walking` (all catalogs below some
roots) → `collect` (garbage collection) and `check`. Beside it, path by path: `opened` → `difference` of two revisions,
`overview` of catalogs, `revisions` that are still there. Nothing here signs: whoever holds
the store (`publish` for a stratum 0, `replicate` for a stratum 1) decides what becomes of the result.
"""
