"""The original's commands to a live mount: words in, text out.

Source: docs/formats/talk.md
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeniedError
from cernvm.fs.cache import DiskCache
from cernvm.fs.format.entry import EntryKind
from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.mount.inspection import Inspection
from cernvm.fs.mount.metrics import FAMILIES, format_metrics, metric_values
from cernvm.fs.reader import Catalog, Piece, pieces_of
from cernvm.fs.reader.repository import MAX_TTL_S
from cernvm.net import ChainFetcher

UNKNOWN = "unknown command\n"
OK = "OK\n"

_MIB = 1024 * 1024
_PIN_DEADLINE_S = 30.0
_PROBE_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Command:
    """One command. Shape: `usage` names its argument, which a command that has one needs; `answer` gets it."""

    answer: Callable[[Inspection, str], str]
    usage: str = ""
    changes: bool = False


def answer_to(mount: Inspection, text: str, *, may_change: bool) -> str:
    """The answer to a command, lines ended by LF, as the original's client gives it.

    Errors: `DeniedError` for a command that changes something when the asker may not.
    """
    words = text.split()
    for count in range(min(len(words), _LONGEST), 0, -1):
        name, argument = " ".join(words[:count]), " ".join(words[count:])
        command = COMMANDS.get(name)
        if command is None or (argument and not command.usage):
            continue
        if command.changes and not may_change:
            raise DeniedError(f"only who mounted {mount.record.repository}, and root, may {name}")
        if command.usage and not argument:
            return f"Usage: {name} <{command.usage}>\n"
        return command.answer(mount, argument)
    return UNKNOWN


def answer_or_error(mount: Inspection, text: str, *, may_change: bool) -> str:
    """As `answer_to`; what fails is told in one line."""
    try:
        return answer_to(mount, text, may_change=may_change)
    except CvmError as error:
        return f"Failed: {error.what}\n"


def _cache_size(mount: Inspection, _: str) -> str:
    usage = mount.client.cache.usage()
    used, pinned = usage.used_bytes, usage.pinned_bytes
    return (
        f"Current cache size is {used // _MIB}MB ({used} Bytes), "
        f"pinned: {pinned // _MIB}MB ({pinned} Bytes)\n"
    )


def _cache_instance(mount: Inspection, _: str) -> str:
    cache = mount.settings.client.cache
    alien = f", alien cache: {cache.alien}" if cache.alien else ""
    return f"{cache.kind} cache (cache directory: {cache.folder}{alien})\n"


def _catalogs(mount: Inspection, _: str) -> str:
    name = mount.record.repository
    return "".join(
        f"file catalog at {name}:{_text(catalog.mountpoint) or '/'} ({catalog.digest})\n"
        for catalog in mount.client.repository.revision.tree.attached()
    )


def _open_catalogs(mount: Inspection, _: str) -> str:
    return "".join(
        f"{'  ' * catalog.mountpoint.count(b'/')}-> {_text(catalog.mountpoint) or '/'}\n"
        for catalog in mount.client.repository.revision.tree.attached()
    )


def _limit(mount: Inspection, _: str) -> str:
    quota_bytes = mount.client.cache.usage().quota_bytes
    return f"{quota_bytes // _MIB if quota_bytes >= 0 else -1}\n"


def _cleanup(mount: Inspection, argument: str) -> str:
    if not argument.isdecimal():
        return "Usage: cleanup <MB>\n"
    cache = mount.client.cache
    if not isinstance(cache, DiskCache):
        return "Not supported: this cache is not on a disk of its own\n"
    cache.clean(int(argument[:12]) * _MIB)
    return OK


def _evict(mount: Inspection, argument: str) -> str:
    pieces = _pieces(mount, argument)
    for piece in pieces:
        mount.client.cache.evict(piece.key)
    return OK if pieces else "No such regular file\n"


def _pin(mount: Inspection, argument: str) -> str:
    deadline = Deadline.after(_PIN_DEADLINE_S)
    objects = mount.client.repository.objects
    pieces = _pieces(mount, argument)
    for piece in pieces:
        objects.get_piece(piece, deadline)
        mount.client.cache.pin(piece.key)
    return OK if pieces else "No such regular file or pinning failed\n"


def _pieces(mount: Inspection, argument: str) -> tuple[Piece, ...]:
    """The objects of a regular file, by its path in the repository; none if there is no such file."""
    path = os.fsencode(os.path.normpath("/" + argument.lstrip("/"))).rstrip(b"/")
    tree = mount.client.repository.revision.tree
    catalog: Catalog = tree.folder(path.rpartition(b"/")[0], Deadline.after(_PIN_DEADLINE_S))
    entry = catalog.find(path)
    if entry is None or entry.kind is not EntryKind.FILE:
        return ()
    return pieces_of(entry, catalog.chunks(path) if entry.is_chunked else (), path=path)


def _remount(mount: Inspection, _: str) -> str:
    if mount.reload():
        return "New revision applied\n"
    failure = mount.client.repository.revision_error
    return f"Failed: {failure}\n" if failure else "Catalog up to date\n"


def _hosts(mount: Inspection, _: str) -> str:
    hosts = mount.client.fetcher.hosts
    lines = [f"  [{number}] {host}\n" for number, host in enumerate(hosts)]
    return "".join(lines) + f"Active host 0: {hosts[0]}\n"


def _probe(mount: Inspection, _: str) -> str:
    deadline = Deadline.after(_PROBE_DEADLINE_S)
    probes = _chain(mount).probe_hosts(MANIFEST_PATH, deadline)
    return "".join(
        f"  [{number}] {probe.host} "
        f"({probe.error if probe.rtt_s is None else f'{probe.rtt_s * 1000:.0f} ms'})\n"
        for number, probe in enumerate(probes)
    )


def _switch_host(mount: Inspection, _: str) -> str:
    _chain(mount).course.switch_host()
    return OK


def _set_hosts(mount: Inspection, argument: str) -> str:
    _chain(mount).course.set_hosts(argument.replace(",", ";"), mount.record.repository)
    return OK


def _proxies(mount: Inspection, _: str) -> str:
    chain = _chain(mount)
    groups = [
        f"[{number}] {', '.join(group)}\n" for number, group in enumerate(chain.course.proxy_groups)
    ]
    return "Load-balance groups:\n" + "".join(groups) + f"Active proxy: {chain.proxy}\n"


def _rebalance(mount: Inspection, _: str) -> str:
    _chain(mount).course.rebalance_proxies()
    return OK


def _switch_group(mount: Inspection, _: str) -> str:
    _chain(mount).course.switch_proxy_group()
    return OK


def _set_proxies(mount: Inspection, argument: str) -> str:
    course = _chain(mount).course
    _, fallback = course.proxies
    course.set_proxies(argument, fallback)
    return OK


def _set_fallback(mount: Inspection, argument: str) -> str:
    course = _chain(mount).course
    proxies, _ = course.proxies
    course.set_proxies(proxies, argument)
    return OK


def _chain(mount: Inspection) -> ChainFetcher:
    fetcher = mount.client.fetcher
    assert isinstance(fetcher, ChainFetcher)  # what `open_client` makes
    return fetcher


def _external_hosts(mount: Inspection, _: str) -> str:
    hosts = [host for host in mount.settings.client.net.external_hosts.split(";") if host]
    lines = [f"  [{number}] {host}\n" for number, host in enumerate(hosts)]
    return "".join(lines) + f"Active host 0: {hosts[0] if hosts else ''}\n"


def _timeouts(mount: Inspection, _: str) -> str:
    net = mount.settings.client.net
    return f"Timeout with proxy: {net.timeout_s:g}s\nTimeout without proxy: {net.timeout_direct_s:g}s\n"


def _max_ttl(mount: Inspection, _: str) -> str:
    seconds = mount.client.repository.max_ttl_s
    return "unset\n" if seconds >= MAX_TTL_S else f"{seconds / 60:g} minutes\n"


def _set_max_ttl(mount: Inspection, argument: str) -> str:
    if not argument.isdecimal():
        return "Usage: max ttl set <minutes>\n"
    minutes = int(argument[:6])
    mount.client.repository.max_ttl_s = min(minutes * 60, MAX_TTL_S) if minutes else MAX_TTL_S
    return OK


def _parameters(mount: Inspection, _: str) -> str:
    return "".join(f"{name}={value}\n" for name, value in sorted(effective(mount).items()))


def effective(mount: Inspection) -> dict[str, str]:
    """The mount's settings by the original's names."""
    client = mount.settings.client
    quota_bytes = mount.client.cache.usage().quota_bytes
    return {
        **client.view.variables,
        "CVMFS_FQRN": client.repository,
        "CVMFS_SERVER_URL": ";".join(mount.client.fetcher.hosts),
        "CVMFS_HTTP_PROXY": _chain(mount).course.proxies[0],
        "CVMFS_PUBLIC_KEY": ":".join(map(str, client.reader.public_keys)),
        "CVMFS_CACHE_DIR": str(client.cache.folder),
        "CVMFS_QUOTA_LIMIT": str(quota_bytes // _MIB if quota_bytes >= 0 else -1),
    }


def _reset(mount: Inspection, _: str) -> str:
    mount.client.repository.failure_count = 0
    return OK


def _history(mount: Inspection, _: str) -> str:
    began = time.strftime("%d %b %Y %H:%M:%S", time.gmtime(mount.started_s))
    return f"{began}    (start of cernvm {version('cernvm')})\n"


def _affairs(mount: Inspection, _: str) -> str:
    values = metric_values(mount)
    known = [family for family in FAMILIES if family.name in values]
    rows = [f"{family.name}|{values[family.name]:.15g}|{family.text}\n" for family in known]
    return "Name|Value|Description\n" + "".join(rows)


def _openmetrics(mount: Inspection, _: str) -> str:
    labels = {"repo": mount.record.repository, "mountpoint": str(mount.record.point)}
    return format_metrics([(labels, metric_values(mount))])


def _absent(why: str) -> Callable[[Inspection, str], str]:
    return lambda _mount, _argument: f"Not supported: {why}\n"


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _commands() -> Iterator[tuple[str, Command]]:
    by_object = "content is kept by digest, without paths"
    yield "cache instance", Command(_cache_instance)
    yield "cache size", Command(_cache_size)
    yield "cache list", Command(_absent(by_object))
    yield "cache list pinned", Command(_catalogs)
    yield "cache list catalogs", Command(_catalogs)
    yield "cache limit get", Command(_limit)
    yield "cache limit set", Command(_absent("mount again with another quota"), "MB", changes=True)
    yield "cleanup", Command(_cleanup, "MB", changes=True)
    yield "cleanup rate", Command(_absent("cvm cache shows what is evicted"), "period")
    yield "evict", Command(_evict, "path", changes=True)
    yield "pin", Command(_pin, "path", changes=True)
    yield "mountpoint", Command(lambda mount, _: f"{mount.record.point}\n")
    yield "device id", Command(lambda mount, _: f"{mount.record.device}\n")
    yield "remount", Command(_remount, changes=True)
    yield "remount sync", Command(_remount, changes=True)
    yield "revision", Command(lambda mount, _: f"{mount.client.view.revision}\n")
    yield "host info", Command(_hosts)
    yield "host probe", Command(_probe, changes=True)
    yield "host switch", Command(_switch_host, changes=True)
    yield "host set", Command(_set_hosts, "host list", changes=True)
    yield "proxy info", Command(_proxies)
    yield "proxy rebalance", Command(_rebalance, changes=True)
    yield "proxy group switch", Command(_switch_group, changes=True)
    yield "proxy set", Command(_set_proxies, "proxy list", changes=True)
    yield "proxy fallback", Command(_set_fallback, "proxy list", changes=True)
    yield "external host info", Command(_external_hosts)
    yield "timeout info", Command(_timeouts)
    yield "timeout set", Command(_absent("mount again"), "proxy> <direct", changes=True)
    yield "max ttl info", Command(_max_ttl)
    yield "max ttl set", Command(_set_max_ttl, "minutes", changes=True)
    yield "nameserver get", Command(lambda _mount, _: "DNS server not set.\n")
    yield "pid", Command(lambda mount, _: f"{mount.record.process.pid}\n")
    yield "pid cachemgr", Command(lambda mount, _: f"{mount.record.process.pid}\n")
    yield "parameters", Command(_parameters)
    yield "reset error counters", Command(_reset, changes=True)
    yield "hotpatch history", Command(_history)
    yield "version", Command(lambda _mount, _: f"{version('cernvm')} (cernvm)\n")
    yield "version patchlevel", Command(lambda _mount, _: "0\n")
    yield "open catalogs", Command(_open_catalogs)
    yield "internal affairs", Command(_affairs)
    yield "metrics prometheus", Command(_openmetrics)
    yield "tracebuffer flush", Command(lambda _mount, _: OK)
    yield "latency", Command(_absent("cvm metrics has the times of requests"))
    yield "nameserver set", Command(_absent("the system's resolver is used"), "host", changes=True)
    yield "chroot", Command(_absent("cvm mount --tag or a root hash"), "hash", changes=True)


COMMANDS: dict[str, Command] = dict(_commands())
"""Command, as its words joined by a space → what answers it."""

_LONGEST = max(len(name.split()) for name in COMMANDS)
