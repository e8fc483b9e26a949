"""A worker process of a publisher: takes jobs from a socket, gives rows back, ends when the socket does.

Usage: python -I -m cernvm.fs.publish.content.worker DESCRIPTOR. Source: docs/formats/content-workers.md.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from cernvm.core.errors import CvmError
from cernvm.fs.publish.content import wire
from cernvm.fs.publish.content.jobs import Plain, pack_row, unpack_job
from cernvm.fs.publish.content.storing import do_job
from cernvm.fs.store.opening import open_store
from cernvm.fs.store.port import ObjectStore


def main() -> None:
    """Serve one publisher until it closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the publisher decides what an interrupt means
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            serve(connection)
        except (EOFError, ConnectionError):
            return


def serve(connection: socket.socket) -> None:
    """Greet, then answer jobs in any order; `EOFError` at the publisher's end."""
    location, threads = wire.receive(connection)
    sending = threading.Lock()

    def answer(number: int, done: object) -> None:
        with sending:
            wire.send(connection, (number, done))

    def answer_later(number: int, job: Plain) -> None:
        answer(number, _do(job, store))

    try:
        store = open_store(location)
    except CvmError as error:
        answer(0, wire.pack_error(error))
        return
    answer(0, None)
    with ThreadPoolExecutor(threads) as pool:
        while True:
            number, job = wire.receive(connection)
            if threads == 1:
                answer(number, _do(job, store))
            else:
                pool.submit(answer_later, number, job).add_done_callback(_check)


def _check(done: Future[None]) -> None:
    """End the process with a job that failed as none should: its publisher waits for an answer."""
    if done.exception() is not None:
        os._exit(1)


def _do(plain: Plain, store: ObjectStore) -> object:
    """The rows of a job as a list, or the error as a tuple."""
    try:
        return [pack_row(row) for row in do_job(unpack_job(plain), store)]
    except CvmError as error:
        return wire.pack_error(error)


if __name__ == "__main__":
    main()
