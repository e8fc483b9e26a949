"""The bytes of a repository, pure: bytes and values in, values out.

What a reader meets, in order: `letter` (the container of) `manifest` and `whitelist`; `trust` (what must hold, over the
`Verifier` of `signature`); `objects` (a digest's path) and `compress`; `catalog` (SQLite rows of `entry`, `xattrs`,
`statistics`). Beside the catalog's rows, for many objects in one request: `pack_table`, `pack`, `profile`. A publisher
adds `chunker` (where large files are cut), `history` (tags) and `reflog` (what garbage collection starts from).
"""
