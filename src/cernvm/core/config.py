"""One TOML file per role into one frozen dataclass; unknown keys are errors.

The dataclass is the schema: its fields' names, types (int, float, bool, str, Path and tuples of them, a mapping from
names, any of these or None, or a nested dataclass for a section) and defaults. Built once, at the edge.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from cernvm.core.errors import ConfigError, NotFoundError

T = TypeVar("T")


def read_toml(path: Path, kind: type[T]) -> T:
    """The settings in `path` as a `kind`.

    Errors: `NotFoundError` without the file; `ConfigError` naming file, section and key, expected and found.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFoundError(
            "configuration",
            str(path),
            advice="make it, or name another file; docs/how-to shows one",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"it is no TOML: {error}", source=str(path), advice="mend the place that is named"
        ) from None
    return build(document, kind, source=str(path))


def build(values: Mapping[str, Any], kind: type[T], *, source: str = "", section: str = "") -> T:
    """A `kind` from plain values, each checked against its field's type."""
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(typing.cast("Any", kind))}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
            raise ConfigError(
                f"unknown setting {key}{hint}", source=source, section=section, key=key
            )
    built: dict[str, Any] = {}
    for key, field in known.items():
        if key in values:
            built[key] = _convert(values[key], hints[key], source=source, section=section, key=key)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError("this setting is missing", source=source, section=section, key=key)
    return kind(**built)


def plain(value: Any) -> Any:
    """A dataclass of settings as values that JSON knows; `build` is the way back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _convert(value: Any, hint: Any, *, source: str, section: str, key: str) -> Any:
    place: dict[str, str] = {"source": source, "section": section, "key": key}
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(value, typing.cast("type[Any]", hint), source=source, section=key)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        member = typing.get_args(hint)[0]
        return tuple(_convert(item, member, **place) for item in value)
    if typing.get_origin(hint) is Mapping and isinstance(value, dict):
        member = typing.get_args(hint)[1]
        return {name: _convert(item, member, **place) for name, item in value.items()}
    if typing.get_origin(hint) is types.UnionType:
        if value is None:
            return None
        return _convert(value, typing.get_args(hint)[0], **place)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (
        isinstance(hint, type)
        and isinstance(value, hint)
        and (hint is bool) == isinstance(value, bool)
    ):
        return value
    expected = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"expected {expected}, found {type(value).__name__}", **place)
