"""All that this machine's data folder serves, as an ASGI application: `uvicorn cernvm.fs.replicate.asgi:app`.

It is made from the environment when its server starts it: `CVM_HOME`, and `CVM_GEOIP` for a GeoIP database.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from cernvm.core.home import Home
from cernvm.fs.publish.web.asgi import Message, Receive, RepositoryApp, Send
from cernvm.fs.publish.web.found import Shelves
from cernvm.fs.replicate.extras import open_extras
from cernvm.fs.replicate.serving import known_storages


class _App:
    """The application, opened by the first message and closed when its server ends."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._app: RepositoryApp | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._app is None:
            self._app = self._open()
        await self._app(scope, receive, send)
        if scope["type"] == "lifespan":
            self._stack.close()

    def _open(self) -> RepositoryApp:
        home = Home.from_environment(os.environ)
        geoip = os.environ.get("CVM_GEOIP")
        extras = self._stack.enter_context(open_extras(home, Path(geoip) if geoip else None))
        return RepositoryApp(Shelves(lambda: known_storages(home), extras.opened, extras))


app = _App()
