"""What lies in a repository's store, from the server's side: revisions as values, walked, compared, checked, collected.

Values: `database` (catalog, history and reflog files as values). Flow: `reading` (objects of an `ObjectStore`) →
walks over revisions, differences between two, check, garbage collection. Nothing here signs:
whoever holds the store (`publish` for a stratum 0, `replicate` for a stratum 1) decides what becomes of the result.
"""
