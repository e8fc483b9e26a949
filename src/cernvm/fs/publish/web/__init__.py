"""Repositories over HTTP, whichever server carries the bytes: what is asked for, and how it is answered.

`found` finds a path's bytes below the known repositories, `answers` decides by the request's headers what of them is
sent (pure), `asgi` is both as an application for any ASGI server. `cernvm.fs.publish.serving` is the server of its own.
"""
