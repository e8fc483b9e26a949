"""One repository, open for reading without a mount."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from cernvm.core.clock import Deadline
from cernvm.core.home import Home
from cernvm.fs.api.files import DEFAULT_WAIT_S, Files
from cernvm.fs.api.locating import Wanted, locate
from cernvm.fs.api.path import RepositoryPath
from cernvm.fs.client import Client, ClientSettings, open_client
from cernvm.fs.format.history import Tag
from cernvm.fs.reader import Pin


def open_repository(
    name: str,
    *,
    url: str = "",
    public_keys: Sequence[str | Path] = (),
    proxy: str = "",
    cache: str | Path | None = None,
    variables: Mapping[str, str] | None = None,
    pin: Pin | None = None,
    wait_s: float = DEFAULT_WAIT_S,
    home: Home | None = None,
) -> OpenRepository:
    """Open a repository for reading; a context manager, or to be closed.

    Of a repository that this machine knows only the name is needed; `url` may be several joined by semicolons,
    `public_keys` are PEM files. The cache is that of `cvm mount`. A `pin` holds one revision, such as `Pin(tag="v1")`.
    Units: `wait_s` bounds every single wait.

    >>> with open_repository("sft.cernvm.test") as repository:  # doctest: +SKIP
    ...     print((repository / "bin/evgen").read_text())

    Errors: those of `locate` and of `open_client`.
    """
    wanted = Wanted(
        url=url,
        public_keys=tuple(Path(key) for key in public_keys),
        proxy=proxy,
        cache=None if cache is None else Path(cache),
        variables=dict(variables or {}),
        pin=pin or Pin(),
    )
    home = home or Home.from_environment(os.environ)
    settings = locate(name, home, wanted, environment=os.environ)
    return OpenRepository(settings, wait_s=wait_s)


class OpenRepository:
    """One repository; shows one revision until `reload`. Concurrency: safe from any thread, not across a fork."""

    def __init__(self, settings: ClientSettings, *, wait_s: float = DEFAULT_WAIT_S) -> None:
        self._wait_s = wait_s
        with ExitStack() as stack:
            self.client: Client = stack.enter_context(open_client(settings))
            self._stack = stack.pop_all()
        self.files = Files(self.client.view, wait_s=wait_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __truediv__(self, path: str | PurePosixPath) -> RepositoryPath:
        return self.root / path

    @property
    def name(self) -> str:
        """The repository's name."""
        return self.files.name

    @property
    def root(self) -> RepositoryPath:
        """The path `/`."""
        return RepositoryPath(self.files)

    @property
    def revision(self) -> int:
        """The revision that is shown."""
        return self.client.repository.revision.number

    @property
    def root_hash(self) -> str:
        """The digest of its root catalog, which names exactly this content."""
        return str(self.client.repository.revision.root_catalog)

    @property
    def published_at(self) -> datetime | None:
        """When it was published, where that is known."""
        return self.client.repository.revision.published_at

    def tags(self) -> tuple[Tag, ...]:
        """Every name that was given to a revision, the newest first."""
        found = self.client.repository.tags(Deadline.after(self._wait_s))
        return tuple(sorted(found, key=lambda tag: (tag.revision, tag.tagged_at), reverse=True))

    def reload(self) -> bool:
        """Show the newest revision; True when it is another one. Open files keep their content."""
        return self.client.view.reload(Deadline.after(self._wait_s))

    def close(self) -> None:
        """Give back connections, threads and the cache; again is fine."""
        self._stack.close()
