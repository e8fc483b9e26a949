"""What magic attributes tell of a client's settings, which nobody below knows."""

from __future__ import annotations

from collections.abc import Sequence

from cernvm.fs.client.settings import ClientSettings


def facts_of(settings: ClientSettings, keys: Sequence[bytes]) -> dict[bytes, str]:
    """Attribute → value, for as long as the client lives. Shape: `keys` are the master keys in PEM."""
    net = settings.net
    external_proxies = net.external_proxies or net.proxies
    return {
        b"user.external_host": net.external_hosts.partition(";")[0],
        b"user.external_timeout": f"{net.external_timeout_s or net.timeout_s:g}",
        b"user.proxy_list": _lines(net.proxies),
        b"user.proxy_list_external": _lines(external_proxies),
        b"user.pubkeys": "".join(key.decode("ascii", "replace") for key in keys),
        b"user.tag": settings.reader.pin.tag,
        b"user.timeout": f"{net.timeout_s:g}",
        b"user.timeout_direct": f"{net.timeout_direct_s:g}",
    }


def _lines(groups: str) -> str:
    return "".join(f"{group}\n" for group in groups.split(";") if group)
