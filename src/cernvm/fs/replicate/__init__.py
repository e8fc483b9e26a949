"""Replicas (stratum 1): a repository's objects copied, each verified before it is visible, and kept.

Values: `Replica` (`replica.py`, what this machine knows of one; its keys: `keys.py`), `Scope` (`scope.py`, which part
is copied), `Offer` (`upstream.py`, the upstream's root documents, verified). Flow of `replicate` (`replicating.py`):
offer → `Walk` (`walk.py`) over catalogs, whose content `contents.py` lists; what the store lacks (`presence.py`) is
fetched by a `Crew` (`crew.py`), from peers first where that is wanted (`peering.py`), many objects in flight across the
borders of catalogs → certificate, tags, reflog, whitelist, and, last, the manifest. A replica signs nothing: manifest
and whitelist are the publisher's bytes.

A catalog is stored once everything below it is: a catalog that is there tells that its subtree is whole, so whatever
ends a replication, the next one asks for nothing twice. `state.py` says for which scope that holds.

Around it: `status.py` (what a server tells of its replicas), `updating.py` (again and again), `stream.py` with
`exporting.py` and `importing.py` (a revision, or the difference of two, as one file).

Beside copies: `through/` (repositories fetched on demand), `geo/` (which servers are near), and `extras.py`, which
gives all of this to the server.
"""
