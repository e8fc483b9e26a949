"""Counters and gauges of one mount, by the original's meaning, and their text for OpenMetrics scrapers.

A mount answers with plain values (`metric_values`), so that one command merges those of all mounts in one text
(`format_metrics`).
Source: docs/formats/metrics.md
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cernvm.fs.mount.inspection import Inspection
from cernvm.net import ChainFetcher
from cernvm.net.course import Turns

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `counter` only ever rises while a mount's process lives, a `gauge` is as it is.

    Shape: `original` is what the same thing is called in the original's own counters or attributes.
    """

    name: str
    kind: str
    text: str
    original: str
    value: Callable[[Inspection], float | None]


def metric_values(mount: Inspection) -> dict[str, float]:
    """Every value that is known, by the family's name. Never waits."""
    values = ((family.name, family.value(mount)) for family in FAMILIES)
    return {name: value for name, value in values if value is not None}


def format_metrics(mounts: Iterable[tuple[Mapping[str, str], Mapping[str, float]]]) -> str:
    """The OpenMetrics text of several mounts, each by its labels and its values."""
    listed = list(mounts)
    return "".join(f"{line}\n" for line in _lines(listed)) + "# EOF\n"


def _lines(mounts: list[tuple[Mapping[str, str], Mapping[str, float]]]) -> Iterator[str]:
    for family in FAMILIES:
        samples = [
            (labels, values[family.name]) for labels, values in mounts if family.name in values
        ]
        if not samples:
            continue
        yield f"# TYPE {family.name} {family.kind}"
        if unit := _unit(family.name):
            yield f"# UNIT {family.name} {unit}"
        yield f"# HELP {family.name} {family.text}"
        suffix = "_total" if family.kind == "counter" else ""
        for labels, value in samples:
            yield f"{family.name}{suffix}{{{_labels(labels)}}} {_number(value)}"


def _unit(name: str) -> str:
    last = name.rpartition("_")[2]
    return last if last in ("bytes", "seconds") else ""


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(text: str) -> str:
    plain = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _resident_bytes(_mount: Inspection) -> float:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES


def _open_files(_mount: Inspection) -> float:
    return len(list(Path("/proc/self/fd").iterdir()))


def _turns(mount: Inspection) -> Turns:
    fetcher = mount.client.fetcher
    assert isinstance(fetcher, ChainFetcher)  # what `open_client` makes
    return fetcher.course.turns


def _last_failure(mount: Inspection) -> float:
    failures = mount.client.repository.trace.failures()
    return int(failures[0].at.timestamp()) if failures else 0


def _published(mount: Inspection) -> float | None:
    published = mount.client.repository.revision.published_at
    return None if published is None else int(published.timestamp())


FAMILIES: tuple[Family, ...] = (
    Family("cvmfs_up", "gauge", "1 where the mount's process answers.", "", lambda _: 1),
    Family("cvmfs_revision", "gauge", "Revision that is shown.", "catalog_revision",
           lambda m: m.client.view.revision),
    Family("cvmfs_published_timestamp_seconds", "gauge", "When that revision was published.", "",
           _published),
    Family("cvmfs_confirmed_age_seconds", "gauge", "Since a server last confirmed the revision.", "",
           lambda m: m.client.repository.confirmed_s),
    Family("cvmfs_expires_seconds", "gauge", "Until a newer revision is looked for.", "user.expires",
           lambda m: round(m.client.view.reload_due_s, 1)),
    Family("cvmfs_revision_failing", "gauge", "1 while the last look for a newer revision failed.", "",
           lambda m: int(bool(m.client.repository.revision_error))),
    Family("cvmfs_uptime_seconds", "gauge", "Age of the process that serves the mount.", "user.uptime",
           lambda m: round(time.time() - m.started_s, 1)),
    Family("cvmfs_mount_timestamp_seconds", "gauge", "When that process began.", "",
           lambda m: int(m.started_s)),
    Family("cvmfs_cached_bytes", "gauge", "What the cache holds, of all its repositories.",
           "cache size", lambda m: m.client.cache.usage().used_bytes),
    Family("cvmfs_pinned_bytes", "gauge", "What may not be evicted.", "cache size",
           lambda m: m.client.cache.usage().pinned_bytes),
    Family("cvmfs_cache_quota_bytes", "gauge", "What the cache may hold.", "cache limit get",
           lambda m: m.client.cache.usage().quota_bytes),
    Family("cvmfs_catalogs_loaded", "gauge", "Catalogs that are open.", "user.nclg",
           lambda m: m.client.repository.revision.tree.attached_count),
    Family("cvmfs_io_errors", "counter", "Requests that ended in an error.",
           "cvmfs.n_io_error, user.nioerr", lambda m: m.client.repository.failure_count),
    Family("cvmfs_last_io_error_timestamp_seconds", "gauge", "When the last of them was; 0: never.",
           "user.timestamp_last_ioerr", _last_failure),
    Family("cvmfs_requests", "counter", "Requests sent to servers and proxies.",
           "download.n_requests, user.ndownload", lambda m: m.client.fetcher.traffic.requests),
    Family("cvmfs_request_failures", "counter", "Those that a server or proxy did not answer well.",
           "", lambda m: m.client.fetcher.traffic.failures),
    Family("cvmfs_request_retries", "counter", "Requests sent again on the same way.",
           "download.n_retries", lambda m: _turns(m).retries),
    Family("cvmfs_host_failovers", "counter", "Changes to another server.",
           "download.n_host_failover", lambda m: _turns(m).host_failovers),
    Family("cvmfs_proxy_failovers", "counter", "Changes to another proxy.",
           "download.n_proxy_failover", lambda m: _turns(m).proxy_failovers),
    Family("cvmfs_received_bytes", "counter", "What servers sent.",
           "download.sz_transferred_bytes, user.rx", lambda m: m.client.fetcher.traffic.received_bytes),
    Family("cvmfs_ahead_fetched_bytes", "counter", "Fetched before anybody asked for it.", "",
           lambda m: m.client.repository.ahead.tally.total("fetched_bytes")),
    Family("cvmfs_ahead_used_bytes", "counter", "What of it was read afterwards.", "",
           lambda m: m.client.repository.ahead.tally.total("used_bytes")),
    Family("cvmfs_ahead_wasted_bytes", "counter", "What of it nobody read soon.", "",
           lambda m: m.client.repository.ahead.tally.total("wasted_bytes")),
    Family("cvmfs_peers_fetched_bytes", "counter", "What peers gave.", "",
           lambda m: m.client.peers.counter.now.fetched_bytes),
    Family("cvmfs_peers_fetched_objects", "counter", "Objects that peers gave.", "",
           lambda m: m.client.peers.counter.now.fetched),
    Family("cvmfs_peers_missed_objects", "counter", "Objects that no peer had.", "",
           lambda m: m.client.peers.counter.now.missed),
    Family("cvmfs_peers_served_bytes", "counter", "What peers got.", "",
           lambda m: m.client.peers.counter.now.served_bytes),
    Family("cvmfs_peers_lies", "counter", "Answers of peers that were forged or damaged.", "",
           lambda m: m.client.peers.counter.now.lies),
    Family("cvmfs_peers_bans", "counter", "How often a peer was left alone for a while.", "",
           lambda m: m.client.peers.counter.now.bans),
    Family("cvmfs_transfer_seconds", "counter", "Time spent in requests, all added up.",
           "download.sz_transfer_time", lambda m: round(m.client.fetcher.traffic.busy_s, 3)),
    Family("cvmfs_open_descriptors", "gauge", "File descriptors of the process.", "user.usedfd",
           _open_files),
    Family("cvmfs_resident_memory_bytes", "gauge", "Memory of the process.", "", _resident_bytes),
)  # fmt: skip
"""What is counted, in the order of the text."""
