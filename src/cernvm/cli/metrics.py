"""`cvm metrics`: the counters of all mounts, once or for scrapers."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json
from cernvm.core.errors import AddressInUseError, CvmError, DeniedError, InvalidInputError
from cernvm.fs.mount import MountRecord, ask, recorded_mounts
from cernvm.fs.mount.metrics import CONTENT_TYPE, format_metrics
from cernvm.fs.mount.talk_client import short_name

_DEADLINE_S = 1.0
_REQUEST_DEADLINE_S = 5.0
_AT_ONCE = 8
_MAX_CONNECTIONS = 64
_MAX_MOUNTS = 512


@click.command(
    epilog="Example: cvm metrics     For Prometheus: cvm metrics --serve 127.0.0.1:9868",
)
@click.option(
    "--serve",
    "address",
    default="",
    metavar="ADDRESS",
    help="Answer scrapers over HTTP until Ctrl-C, at 127.0.0.1:PORT or at a unix socket's PATH.",
)
@json_option
@click.pass_obj
def metrics(edge: Edge, *, address: str, as_json: bool) -> None:
    """Print the counters of every mount in the OpenMetrics text format.

    A mount that does not answer within a second is told as cvmfs_up 0. Each counter's meaning: docs/formats/metrics.md.
    """
    if address:
        _serve(edge.home.run, address)
    elif as_json:
        print_json(
            [
                {"mountpoint": str(record.point), "repository": record.repository, **values}
                for record, values in _ask_all(edge.home.run)
            ]
        )
    else:
        click.echo(_text(edge.home.run), nl=False)


def _text(run: Path) -> str:
    return format_metrics(
        ({"repo": record.repository, "mountpoint": str(record.point)}, values)
        for record, values in _ask_all(run)
    )


def _ask_all(run: Path) -> Iterator[tuple[MountRecord, dict[str, Any]]]:
    """Every mount with its values; all are asked at once, so that a silent one costs its own second only."""
    records = list(recorded_mounts(run))[:_MAX_MOUNTS]
    with ThreadPoolExecutor(max_workers=32) as pool:
        yield from zip(records, pool.map(_values, records), strict=True)


def _values(record: MountRecord) -> dict[str, Any]:
    try:
        answer = ask(record.socket, {"ask": "metrics"}, deadline_s=_DEADLINE_S)
        numbers = {
            str(name): value
            for name, value in answer["values"].items()
            if isinstance(value, int | float)
        }
    except (CvmError, KeyError, AttributeError):
        return {"cvmfs_up": 0}
    return {"cvmfs_up": 1, **numbers}


def _serve(run: Path, address: str) -> NoReturn:
    places = threading.BoundedSemaphore(_AT_ONCE)

    class Answer(http.server.BaseHTTPRequestHandler):
        timeout = _REQUEST_DEADLINE_S

        def do_GET(self) -> None:  # the library's name
            if self.path.partition("?")[0] not in ("/", "/metrics"):
                self.send_error(404, "ask for /metrics")
                return
            if not places.acquire(blocking=False):
                self.send_error(503, "too many scrapers at once")
                return
            try:
                body = _text(run).encode()
            finally:
                places.release()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Scrapes are not worth a line each."""

        def address_string(self) -> str:
            return "client"

    with _bound(address, Answer) as server:
        click.echo(f"serving the counters of all mounts at {address}", err=True)
        server.serve_forever()
    raise AssertionError


class _Server(http.server.ThreadingHTTPServer):
    """Answers so many connections at once; those beyond are closed."""

    def __init__(self, address: Any, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        path = Path(str(self.server_address))
        if path.is_symlink() or (path.exists() and not path.is_socket()):
            raise InvalidInputError(f"{path} exists and is no socket")
        with short_name(path) as name:
            if _has_listener(name):
                raise AddressInUseError(str(path), advice="name another path, or end that one")
            path.unlink(missing_ok=True)
            os.fchmod(self.socket.fileno(), 0o660)
            self.socket.bind(name)
        self.server_name, self.server_port = str(path), 0


def _has_listener(name: str) -> bool:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(_DEADLINE_S)
        try:
            channel.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


def _bound(
    address: str, handler: type[http.server.BaseHTTPRequestHandler]
) -> http.server.ThreadingHTTPServer:
    if "/" in address:
        try:
            return _UnixServer(Path(address).absolute().as_posix(), handler)
        except OSError as error:
            raise DeniedError(
                f"{address} cannot be listened at: {error.strerror or error}"
            ) from error
    host, _, port = address.rpartition(":")
    is_port = port.isdecimal() and int(port[:6]) < 65536
    if host not in ("127.0.0.1", "localhost", "") or not is_port:
        raise InvalidInputError(
            f"{address!r} is no loopback address",
            advice="counters are for this machine: 127.0.0.1:9868, or a path for a unix socket",
        )
    try:
        return _Server(("127.0.0.1", int(port)), handler)
    except OSError as error:
        raise AddressInUseError(address) from error
