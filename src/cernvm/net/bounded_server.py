"""A TCP server with a thread for each connection, and a bounded number of them."""

from __future__ import annotations

import logging
import threading
from socketserver import BaseRequestHandler, TCPServer, ThreadingMixIn
from typing import Any

from cernvm.core.log import fields
from cernvm.net.listening import open_listener

log = logging.getLogger(__name__)


class BoundedServer(ThreadingMixIn, TCPServer):
    """Answers by `exchange`; `serve_forever` runs it, `shutdown` ends it. Who comes when all are busy is hung up on.

    Errors: those of `open_listener`.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: str, port: int, exchange: type[BaseRequestHandler], *, most: int
    ) -> None:
        self._slots = threading.BoundedSemaphore(most)
        listener = open_listener(address, port)
        super().__init__(listener.getsockname(), exchange, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    @property
    def port(self) -> int:
        """The port that was asked for, or the free one that was found."""
        return int(self.socket.getsockname()[1])

    def greeted(self, request: Any) -> Any:
        """The connection as it is talked over from here on, in its own thread; an `OSError` ends it."""
        return request

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            log.warning("serve.full", extra=fields(client=client_address[0]))
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the process may have no more threads
            self._slots.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(self.greeted(request), client_address)
        except OSError as error:
            log.debug("serve.no_greeting", extra=fields(client=client_address[0], error=error))
            self.shutdown_request(request)
        finally:
            self._slots.release()
