"""Writing a repository: create, publish, serve.

`repository` is the value that everything is about; `creating` makes one. A publication flows through `publishing`:
`source` (walk) → `scan` (what differs from the last revision; `content` stores objects on all cores, `index` remembers
unchanged files) → `draft` (the catalogs; `packing` of small files, cut by `cutting`; `profiles`) → `revision` (tags,
reflog, whitelist, manifest).
`serving` exports the result over HTTP.
"""
