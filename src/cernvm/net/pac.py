"""Proxies from a PAC script: found where the network or the configuration says, run apart, believed within bounds.

The script is a stranger's program. It runs in a process of its own (`pac_script.py`) with little memory and time, which
is killed at the deadline; only the text of its answer comes back.
"""

from __future__ import annotations

import re
import subprocess
import sys
from urllib.parse import urlsplit

from cernvm.core.clock import Deadline
from cernvm.core.errors import FormatError, PrerequisiteError
from cernvm.net.chain import AUTO, DIRECT

WPAD_URL = "http://wpad/wpad.dat"
MAX_SCRIPT_BYTES = 256 * 1024
MAX_PROXIES = 32

_SCRIPT_S = 5.0
_NO_LIBRARY = 3  # as pac_script.py exits
_HOP = re.compile(r"(?i)(?:PROXY|HTTP)\s+([\w.:\[\]-]+)")


def pac_urls(text: str) -> tuple[str, ...]:
    """Where scripts may be, from `URL;URL`; `auto` among them, or nothing, stands for the network's own."""
    urls = [url.strip() for url in text.split(";") if url.strip()] or [AUTO]
    return tuple(WPAD_URL if url == AUTO else url for url in urls)


def run_script(script: bytes, url: str, deadline: Deadline) -> str:
    """The proxies that `script` names for `url`, as `parse_proxies` reads them.

    Errors: `FormatError` for a script that fails, lasts too long or names no proxy; `PrerequisiteError`.
    """
    host = urlsplit(url).hostname or ""
    command = [sys.executable, "-I", "-m", "cernvm.net.pac_script", url, host]
    try:
        done = subprocess.run(
            command,
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=min(_SCRIPT_S, max(deadline.remaining_s, 0.1)),
            check=False,
            env={},
        )
    except subprocess.TimeoutExpired:
        raise FormatError("the PAC script has no end") from None
    except OSError as error:
        raise PrerequisiteError(f"PAC scripts cannot be run: {error.strerror}") from error
    if done.returncode == _NO_LIBRARY:
        advice = "pip install 'cernvm[pac]', or name the proxies"
        raise PrerequisiteError("PAC scripts need a library that is not installed", advice=advice)
    if done.returncode != 0:
        raise FormatError("the PAC script failed")
    return to_proxies(done.stdout.decode("ascii", "replace"))


def to_proxies(answer: str) -> str:
    """What a script answers, as groups in the script's order. Errors: `FormatError` when there is no proxy in it.

    >>> to_proxies("PROXY a:3128; PROXY b:3128; DIRECT")
    'http://a:3128;http://b:3128;DIRECT'
    """
    hops: list[str] = []
    for part in answer.split(";")[:MAX_PROXIES]:
        hop = part.strip()
        if hop.upper() == DIRECT:
            hops.append(DIRECT)
        elif (named := _HOP.fullmatch(hop)) is not None:
            hops.append(f"http://{named[1]}")
    if not hops:
        raise FormatError("the PAC script names no proxy that could be used")
    return ";".join(dict.fromkeys(hops))
