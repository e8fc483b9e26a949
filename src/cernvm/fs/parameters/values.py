"""What configuration says of one repository: every parameter, where it was set, and what was odd on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cernvm.core.errors import ConfigError

PREFIX = "CVMFS_"


@dataclass(frozen=True, slots=True)
class Origin:
    """A place in a file; or, with line 0, something else that sets a parameter."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter's value; `earlier` are the values that it replaced, the oldest first."""

    value: str
    origin: Origin
    earlier: tuple[tuple[str, Origin], ...] = ()


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that a person should mend, though a value could be made of it."""

    origin: Origin
    what: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.what}"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one repository by name, as its files leave them.

    Shape: an empty value counts as not set; `keys` are its master keys, each by where it was found and as PEM, and
    `blacklists` the blacklists, likewise; the content of one that does not exist is empty.
    """

    repository: str
    settings: Mapping[str, Setting]
    warnings: tuple[Warned, ...] = ()
    files: tuple[str, ...] = ()
    keys: tuple[tuple[str, bytes], ...] = ()
    blacklists: tuple[tuple[str, bytes], ...] = ()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.settings))

    def text(self, name: str, default: str = "") -> str:
        """The value, `@fqrn@` and `@org@` in it filled in."""
        setting = self.settings.get(name)
        if setting is None or not setting.value:
            return default
        organisation = self.repository.partition(".")[0]
        return setting.value.replace("@fqrn@", self.repository).replace("@org@", organisation)

    def is_set(self, name: str) -> bool:
        """Whether it has a value that is not empty."""
        return bool(self.text(name))

    def switch(self, name: str, *, default: bool = False) -> bool:
        """Whether it is on: `yes`, `on`, `true` and `1` are, in any case; everything else is off."""
        text = self.text(name)
        return text.lower() in ("yes", "on", "true", "1") if text else default

    def number(self, name: str, default: int, *, least: int = 0) -> int:
        """A whole number. Errors: `ConfigError` naming where it was set."""
        text = self.text(name)
        if not text:
            return default
        try:
            value = int(text[:20])
        except ValueError:
            value = least - 1
        if value < least:
            raise self.error(name, f"{text[:40]!r} is no whole number of at least {least}")
        return value

    def error(self, name: str, reason: str) -> ConfigError:
        """What to raise about the value of `name`."""
        setting = self.settings.get(name)
        source = str(setting.origin) if setting else ""
        return ConfigError(reason, source=source, key=name)
