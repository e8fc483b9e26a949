"""Keeping a repository like a tree: publish, wait until it changed and is quiet, publish."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import ChangedError, ConflictError, CvmError, TrustError, UnavailableError
from cernvm.core.log import fields
from cernvm.fs.publish.publishing import Options, Published, publish_tree
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.watching.watch import TreeWatch, open_watch
from cernvm.fs.store.port import ObjectStore

log = logging.getLogger(__name__)

_FIRST_DELAY_S = 5.0
_LONGEST_DELAY_S = 300.0

# told each revision, and each error after which the watch goes on
Told = Callable[[Published | CvmError], None]


def watch_tree(
    repository: Repository,
    store: ObjectStore,
    tree: Path,
    *,
    options: Options,
    tell: Told,
    quiet_s: float = 2.0,
    poll_s: float = 10.0,
    is_polling: bool = False,
    times: int | None = None,
    clock: Clock | None = None,
) -> None:
    """Publish a tree now and after each change, until interrupted or `times` were published.

    Only a tree that was quiet for `quiet_s`, and that nothing wrote to until it was read to its end, is published.
    Errors: of a tree that is gone, and of a repository that cannot be trusted; others are told, and it goes on: at the
    next change, or after a delay where the fault is not the tree's.
    """
    used = clock or SystemClock()
    delay_s = _FIRST_DELAY_S
    with closing(open_watch(tree, poll_s=poll_s, is_polling=is_polling)) as watch:
        done = 0
        while times is None or done < times:
            watch.wait_for_quiet(quiet_s)
            watch.forget()
            try:
                published = _publish(repository, store, tree, options, watch)
            except ChangedError as error:
                log.info("watch.again", extra=fields(tree=tree, reason=error.what))
                continue
            except TrustError:
                raise
            except CvmError as error:
                if not tree.is_dir():
                    raise
                tell(error)
                if isinstance(error, UnavailableError | ConflictError):
                    used.sleep(delay_s)
                    delay_s = min(delay_s * 2, _LONGEST_DELAY_S)
                    continue
            else:
                delay_s = _FIRST_DELAY_S
                done += 1
                tell(published)
            if times is None or done < times:
                watch.wait_for_change()


def _publish(
    repository: Repository, store: ObjectStore, tree: Path, options: Options, watch: TreeWatch
) -> Published:
    def check() -> None:
        if watch.has_changed():
            raise ChangedError(f"{tree} changed while it was published")

    return publish_tree(repository, store, tree, options=options, settled=check)
