"""Several publishers of one repository: leases on paths, object packs, and commits that merge subtrees.

Values: `lease` (what a lease covers), `object_pack`, `signature`, `protocol` (requests), `answers`. Flow of a request:
`server` (HTTP) → `routes` (address, what is signed; keys by `access`) → `service` → `book` (leases), `payload` (objects
into the store), `merging` (what changed below the lease, put into the current revision through `publish`).
A publisher's side of it: `session` (a lease, held), `remote` (its store), `joining`.
"""

from cernvm.fs.gateway.service import leases_open_since

__all__ = ["leases_open_since"]
