"""Runs one PAC script from stdin for one URL, and writes what it answers; a process of its own, being a stranger's."""

from __future__ import annotations

import resource
import sys

_MEMORY_BYTES = 512 << 20
_CPU_S = 5
_MAX_ANSWER = 4096
_NO_LIBRARY = 3


def main() -> int:
    """Arguments: URL, host. Exit code 3 without the library, 1 for a script that fails."""
    url, host = sys.argv[1:3]
    script = sys.stdin.buffer.read().decode("utf-8", "replace")
    try:
        from pypac.parser import PACFile  # noqa: PLC0415 - an extra
    except ImportError:
        return _NO_LIBRARY
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    answer = PACFile(script).find_proxy_for_url(url, host)
    sys.stdout.write(str(answer)[:_MAX_ANSWER])
    return 0


if __name__ == "__main__":
    sys.exit(main())
