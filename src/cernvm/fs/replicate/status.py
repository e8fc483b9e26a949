"""What a server of repositories tells of itself: the original's JSON files, a page of health, and OpenMetrics.

Source: docs/formats/replica.md, "What a server tells".
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from html import escape

from cernvm.core.clock import Clock, Deadline, SystemClock
from cernvm.core.errors import CvmError
from cernvm.core.home import Home
from cernvm.fs.format.letter import MAX_LETTER_BYTES
from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.format.trust import open_manifest
from cernvm.fs.publish.repository import known_repositories
from cernvm.fs.replicate.health import Grade, Health, read_health
from cernvm.fs.replicate.replica import Replica, known_replicas
from cernvm.fs.replicate.through.record import known_pass_throughs
from cernvm.net import NetSettings, fetch, open_fetcher

META_PATH = "meta.json"  # below $CVM_HOME: what its administrator says of the server
KEEP_S = 10.0
_ASK_AGAIN_S = 60.0
_UPSTREAM_S = 3.0
_AT_ONCE = 16
_MAX_META_BYTES = 1 << 16

_COLUMNS = (
    "name",
    "kind",
    "grade",
    "revision",
    "lag",
    "published_at",
    "whitelist_expires_at",
    "last_snapshot",
    "last_check",
    "last_gc",
)


@dataclass(frozen=True, slots=True)
class Document:
    """An answer to a GET."""

    body: bytes
    content_type: str
    max_age_s: int


class Documents:
    """Answers paths that are no files of a repository; what it found out is kept for a few seconds.

    Concurrency: safe from any thread.
    """

    def __init__(self, home: Home, clock: Clock | None = None) -> None:
        self._home = home
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._health: list[Health] = []
        self._read_at_s: float | None = None
        self._upstreams: dict[str, tuple[float, int | None]] = {}
        self._answers: dict[str, Callable[[], Document]] = {
            "/cvmfs/info/v1/repositories.json": self._repositories,
            "/cvmfs/info/v1/meta.json": self._meta,
            "/health.json": lambda: _json([one.row() for one in self._read()], max_age_s=0),
            "/health": lambda: Document(_page(self._read()), "text/html; charset=utf-8", 0),
            "/metrics": lambda: Document(_metrics(self._read()), _OPENMETRICS, 0),
        }

    def __call__(self, path: str) -> Document | None:
        """The document at a path of the server; None where there is none."""
        answer = self._answers.get(path)
        return None if answer is None else answer()

    def _repositories(self) -> Document:
        listed = {
            "schema": 1,
            "repositories": [_entry(one.name) for one in known_repositories(self._home)],
            "replicas": [
                *(_entry(one.name) for one in known_replicas(self._home)),
                *(
                    {**_entry(one.name), "pass-through": True}
                    for one in known_pass_throughs(self._home)
                ),
            ],
        }
        return _json(listed)

    def _meta(self) -> Document:
        meta = {"administrator": "", "email": "", "organisation": "", "custom": {}}
        try:
            said = json.loads((self._home.path / META_PATH).read_bytes()[:_MAX_META_BYTES])
        except (OSError, ValueError):
            said = {}
        return _json({**meta, **said} if isinstance(said, dict) else meta)

    def _read(self) -> list[Health]:
        with self._lock:
            now_s = self._clock.monotonic()
            if self._read_at_s is None or now_s - self._read_at_s > KEEP_S:
                self._ask_upstreams(known_replicas(self._home))
                self._health = read_health(self._home, self._clock.now(), self._upstream_revision)
                self._read_at_s = self._clock.monotonic()
            return self._health

    def _ask_upstreams(self, replicas: Sequence[Replica]) -> None:
        """What the upstreams say their revisions are; asked now and then, all at once, whatever became of it."""
        now_s = self._clock.monotonic()
        due = [one for one in replicas if now_s - self._asked_s(one) > _ASK_AGAIN_S]
        if not due:
            return
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            for replica, revision in zip(due, pool.map(_ask_upstream, due), strict=True):
                self._upstreams[replica.name] = (now_s, revision)

    def _asked_s(self, replica: Replica) -> float:
        return self._upstreams.get(replica.name, (-math.inf, None))[0]

    def _upstream_revision(self, replica: Replica) -> int | None:
        return self._upstreams.get(replica.name, (0.0, None))[1]


def _ask_upstream(replica: Replica) -> int | None:
    settings = NetSettings(";".join(replica.urls), proxies=replica.proxies, max_retries=0)
    try:
        fetcher = open_fetcher(settings, replica.name)
        try:
            return fetch(
                fetcher,
                MANIFEST_PATH,
                limit_bytes=MAX_LETTER_BYTES,
                deadline=Deadline.after(_UPSTREAM_S),
                accept=lambda data: open_manifest(data, name=replica.name).revision,
            )
        finally:
            fetcher.close()
    except CvmError:
        return None


def _entry(name: str) -> dict[str, object]:
    return {"name": name, "url": f"/cvmfs/{name}"}


def _json(value: object, *, max_age_s: int = 61) -> Document:
    return Document(json.dumps(value, indent=1).encode() + b"\n", "application/json", max_age_s)


def _page(healths: Sequence[Health]) -> bytes:
    """One table, the worst first; plain enough for any browser and for reading it by a pipe."""
    rows = "".join(_page_row(one) for one in sorted(healths, key=lambda one: -one.grade))
    heads = "".join(f"<th>{column.replace('_', ' ')}</th>" for column in (*_COLUMNS, "reasons"))
    worst = max((one.grade for one in healths), default=Grade.OK)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Repositories</title>'
        "<style>body{font-family:sans-serif;margin:2em}td,th{padding:.3em .8em;text-align:left}"
        "tr.ok td{background:#e8f5e9}tr.warning td{background:#fff8e1}"
        "tr.error td{background:#ffebee}</style>"
        f"<h1>Repositories: {worst.name.lower()}</h1>"
        f"<table><tr>{heads}</tr>{rows}</table></html>\n"
    ).encode()


def _page_row(one: Health) -> str:
    row = one.row()
    cells = [row[column] for column in _COLUMNS] + ["; ".join(one.reasons)]
    texts = (escape("" if cell is None else str(cell)) for cell in cells)
    return f'<tr class="{row["grade"]}">' + "".join(f"<td>{text}</td>" for text in texts) + "</tr>"


_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_GAUGES: tuple[tuple[str, str, Callable[[Health], float | None]], ...] = (
    ("grade", "0 well, 1 a warning, 2 an error.", lambda one: int(one.grade)),
    ("revision", "Revision that is served.", lambda one: one.revision),
    ("upstream_revision", "Revision that the upstream offers.", lambda one: one.upstream_revision),
    (
        "published_timestamp_seconds",
        "When the revision was published.",
        lambda one: _seconds(one.published_at),
    ),
    (
        "whitelist_expiry_timestamp_seconds",
        "When the whitelist expires.",
        lambda one: _seconds(one.whitelist_expires_at),
    ),
    (
        "last_snapshot_timestamp_seconds",
        "When the replica was last up to date.",
        lambda one: _seconds(one.last_snapshot),
    ),
    (
        "last_error_timestamp_seconds",
        "When a replication last failed.",
        lambda one: _seconds(one.last_error_at),
    ),
    (
        "last_gc_timestamp_seconds",
        "When garbage was last collected.",
        lambda one: _seconds(one.last_gc),
    ),
    (
        "last_check_timestamp_seconds",
        "When it was last checked.",
        lambda one: _seconds(one.last_check),
    ),
)


def _metrics(healths: Sequence[Health]) -> bytes:
    return "\n".join([*_metric_lines(healths), "# EOF\n"]).encode()


def _metric_lines(healths: Sequence[Health]) -> Iterator[str]:
    for name, text, value_of in _GAUGES:
        yield f"# TYPE cvmfs_server_{name} gauge"
        yield f"# HELP cvmfs_server_{name} {text}"
        for one in healths:
            value = value_of(one)
            if value is not None:
                yield f'cvmfs_server_{name}{{repo="{one.name}",kind="{one.kind}"}} {value:.0f}'


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
