"""What an instance's root may not do, and what it inherits from its launcher: next to nothing.

Which rights stay, and why, is docs/decisions/container-hypervisor.md.
Source: capabilities(7), prctl(2), keyctl(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
from typing import NoReturn

CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL = 0, 1, 3, 4, 5
CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT = 6, 7, 8, 10, 18
KEPT = frozenset(
    (
        CAP_CHOWN,
        CAP_DAC_OVERRIDE,
        CAP_FOWNER,
        CAP_FSETID,
        CAP_KILL,
        CAP_SETGID,
        CAP_SETUID,
        CAP_SETPCAP,
        CAP_NET_BIND_SERVICE,
        CAP_SYS_CHROOT,
    )
)

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "container": "cernvm",  # the word by which programs learn that they run in one
}

_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 47, 4
_CAPABILITY_VERSION_3 = 0x2008_0522
_HIGHEST_CAPABILITY = 63
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}
_KEYCTL_JOIN_SESSION_KEYRING = 1

_libc = ctypes.CDLL(None, use_errno=True)


def become_init(arguments: list[str], *, console: int) -> NoReturn:
    """Turn this process into the instance's init: bounded rights, a clean environment, output to the console only.

    Errors: `OSError`; the process must then end.
    """
    os.setsid()
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would go to the host's handler
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(
            number, signal.SIG_DFL
        )  # exec hands on what is ignored, as Python does SIGPIPE
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _leave_session_keyring()
    _bound_capabilities()
    nothing = os.open("/dev/null", os.O_RDONLY)
    for target, source in enumerate((nothing, console, console)):
        os.dup2(source, target)
    os.execve(arguments[0], arguments, ENVIRONMENT)  # noqa: S606  # a path of the instance


def _bound_capabilities() -> None:
    """Nothing that init starts, set-user-id or not, can ever have more than `KEPT`."""
    for capability in range(_HIGHEST_CAPABILITY + 1):
        if capability in KEPT:
            continue
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            if ctypes.get_errno() == errno.EINVAL:
                break  # past the last one this kernel knows
            _fail("drop capabilities")
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    low = sum(1 << capability for capability in KEPT)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # effective, permitted, inheritable for capabilities 0 to 31, then for 32 to 63
    sets = (ctypes.c_uint32 * 6)(low, low, 0, 0, 0, 0)
    if _libc.capset(header, sets) < 0:
        _fail("set capabilities")


def _leave_session_keyring() -> None:
    """The keys of whoever started the site are not the instance's; kernels without keys have nothing to leave."""
    number = _SYS_KEYCTL.get(os.uname().machine)
    if number is not None:
        _libc.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None)


def _fail(what: str) -> NoReturn:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), what)
