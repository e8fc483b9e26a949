"""Where a publisher keeps objects: named bytes that appear whole or not at all.

`port` says what a store must do, `opening` opens one by its location, `local` does it in a folder that any web server
exports, `s3` in a bucket, `fsspec_store` on whatever file system fsspec knows, `memory` is the twin. `lease` is how a
store without locks is held by one publisher, `headers` what HTTP caches are told of a path, `parts` how a store gives
an object that is too big to be held in memory.
"""
