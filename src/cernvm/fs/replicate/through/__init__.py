"""Pass-through replicas: a repository that is fetched on demand, verified, and kept as long as there is room.

Values: `PassThrough` (`record.py`, what this machine knows of one). `ThroughStore` (`store.py`) answers like the store
of any other repository: root documents by `RootDocuments` (`roots.py`), which are verified and, while no upstream can
be reached, a bit older; objects from the `Shelf` (`shelf.py`) or, once for all who wait, from upstream.
"""
