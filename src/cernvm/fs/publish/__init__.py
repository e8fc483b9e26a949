"""Writing a repository: create, publish, serve.

`repository` is the value that everything is about; `creating` makes one. A publication flows through `publishing`:
`source` (walk) → `scan` (entries; `content` stores objects on all cores, `index` remembers unchanged files) → `plan`
(which directories get catalogs) → `building` (catalogs; `grafting` where only a part is replaced; `packing` of small
files, cut by `cutting`; `profiles`, whose paths `finding` looks up) → `revision` (tags, reflog, whitelist, manifest).
`serving` exports the result over HTTP.
"""
