"""Writing a repository: create, publish, keep, serve.

`repository` is the value that everything is about, with its `settings`; `creating` makes one. Every new revision goes
through `flow`, whatever changes (`publishing` has trees, `ingest` archives): `source` (walk) → `scan` (what differs
from the last revision; `content` stores objects on all cores, `index` remembers unchanged files, `grafts` come without
data) → `marking` (the rules of a `dirtab`) → `draft` (the catalogs; `packing` of small files, cut by `cutting`;
`profiles`) → `sink` → `revision` (tags, reflog, whitelist, manifest). A `rehearsal` goes the same way and leaves no
trace; `hooks` run around it; `watching` repeats it. `tags` names revisions, `rolling_back`
publishes an older one again, `collecting` deletes what none needs. `serving` exports the result over HTTP.
"""
