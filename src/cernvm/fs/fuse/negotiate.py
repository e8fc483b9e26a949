"""What a read-only server asks of the kernel in INIT, and what both then keep to.

Names and attributes are kept by the kernel as long as `Validity` says, listings and symbolic links with them. OPENDIR
is never sent where the kernel can do without, OPEN neither if the settings say so (`opening.py`): an inode's content
never changes, so there is nothing to do at open time.
"""

from __future__ import annotations

from cernvm.fs.fuse.protocol import (
    MAJOR,
    MINOR,
    OLDEST_MINOR,
    InitAnswer,
    InitFlag,
    InitRequest,
)
from cernvm.fs.fuse.settings import KernelSettings

WISHES = (
    InitFlag.ASYNC_READ
    | InitFlag.DO_READDIRPLUS
    | InitFlag.READDIRPLUS_AUTO
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.NO_OPENDIR_SUPPORT
    | InitFlag.EXPLICIT_INVAL_DATA
    | InitFlag.INIT_EXT
    | InitFlag.DIRECT_IO_ALLOW_MMAP
    | InitFlag.HAS_RESEND
)
# What each way of opening asks for besides.
WISHES_TO_OPEN = {
    "auto": InitFlag.NO_OPEN_SUPPORT,
    "no-open": InitFlag.NO_OPEN_SUPPORT,
    "keep-cache": InitFlag(0),
    "passthrough": InitFlag.PASSTHROUGH,
}

EPOCH_MINOR = 44  # Linux 6.16: one notice makes the kernel ask again for every name

READAHEAD_BYTES = 1 << 20
MAX_PAGES = 256  # 1 MiB in one READ; the kernel cuts it to its own limit
MAX_WRITE_BYTES = (
    4096  # the least allowed: nothing is written, and it bounds the size of any request
)
MAX_BACKGROUND = 1024  # read-aheads that wait for a dead server must leave room for others
CONGESTION_THRESHOLD = 768
STACK_DEPTH = (
    1  # the cache's file system may not be stacked itself, and ours may be stacked upon once
)


def agree(request: InitRequest, settings: KernelSettings) -> InitAnswer:
    """The answer to INIT: of our wishes, those that the kernel offers.

    Errors: `ValueError` for a kernel too old to speak with. A kernel of a newer major number is answered with ours
    and asks again.
    """
    if request.major < MAJOR or (request.major == MAJOR and request.minor < OLDEST_MINOR):
        raise ValueError(f"the kernel speaks FUSE {request.major}.{request.minor}, older than 7.23")
    flags = request.flags & (WISHES | WISHES_TO_OPEN[settings.opening])
    if not settings.resend:
        flags &= ~InitFlag.HAS_RESEND
    return InitAnswer(
        minor=min(request.minor, MINOR) if request.major == MAJOR else MINOR,
        max_readahead_bytes=min(request.max_readahead_bytes, READAHEAD_BYTES),
        flags=flags,
        max_background=MAX_BACKGROUND,
        congestion_threshold=CONGESTION_THRESHOLD,
        max_write_bytes=MAX_WRITE_BYTES,
        max_pages=MAX_PAGES,
        max_stack_depth=STACK_DEPTH if flags & InitFlag.PASSTHROUGH else 0,
    )
