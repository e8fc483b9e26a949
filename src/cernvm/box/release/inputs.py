"""What a release is made of, as digests: an unchanged layer is recognised and not built again.

A release is a tree built in layers, each on top of the one before. Beside the tree lies its stamp, which names the
layers that are complete. A layer whose digest differs is built again together with all that come after it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.home import ensure_folder, write_atomically

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Layer:
    """One step of a release: `build` changes the tree so that it holds what `digest` stands for.

    Errors: `build` may end anywhere; the layer then counts as absent and is built again, so it must bear leftovers.
    """

    name: str
    digest: str
    build: Callable[[Path, Progress], None]


@dataclass(frozen=True, slots=True)
class Release:
    """A finished tree.

    Shape: `digest` covers all layers, so two trees with one digest are interchangeable; `built` says whether anything
    had to be done.
    """

    tree: Path
    digest: str
    built: bool


def build_release(tree: Path, layers: Sequence[Layer], progress: Progress) -> Release:
    """Bring `tree` up to `layers`, doing only what is not done yet."""
    stamp = tree.with_name(f"{tree.name}.stamp")
    done = complete_layers(read_stamp(stamp), layers) if tree.is_dir() else 0
    ensure_folder(tree.parent)
    for number in range(done, len(layers)):
        # the stamp goes back first: a crash inside `build` must not leave a layer that counts as complete
        _write_stamp(stamp, layers[:number])
        layers[number].build(tree, progress)
        _write_stamp(stamp, layers[: number + 1])
    return Release(tree, digest_of(layer.digest for layer in layers), built=done < len(layers))


def is_complete(tree: Path, layers: Sequence[Layer]) -> bool:
    """Whether the tree is as wanted, so that building it would do nothing."""
    stamped = read_stamp(tree.with_name(f"{tree.name}.stamp"))
    return tree.is_dir() and complete_layers(stamped, layers) == len(layers)


def complete_layers(stamped: Sequence[str], layers: Sequence[Layer]) -> int:
    """How many layers, from the bottom, are already as wanted."""
    count = 0
    for found, layer in zip(stamped, layers, strict=False):
        if found != layer.digest:
            break
        count += 1
    return count


def digest_of(parts: Iterable[str | bytes]) -> str:
    """One digest of several texts; where one ends and the next begins matters."""
    hasher = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        hasher.update(b"%d:" % len(raw) + raw)
    return hasher.hexdigest()


def digest_of_files(root: Path) -> str:
    """One digest of all source files below `root`: their names and contents, not their times."""
    return digest_of(part for path in source_files(root) for part in _name_and_bytes(root, path))


def source_files(root: Path) -> Iterator[Path]:
    """The files of a Python package that belong to it: no bytecode, in a stable order."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield path


def read_stamp(path: Path) -> tuple[str, ...]:
    """The digests of the complete layers; none where the stamp is absent or damaged."""
    try:
        rows = json.loads(path.read_bytes())["layers"]
        return tuple(str(row["digest"]) for row in rows)
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _write_stamp(path: Path, layers: Sequence[Layer]) -> None:
    rows = [{"name": layer.name, "digest": layer.digest} for layer in layers]
    write_atomically(path, json.dumps({"layers": rows}, indent=1).encode())


def _name_and_bytes(root: Path, path: Path) -> tuple[str, bytes]:
    return str(path.relative_to(root)), path.read_bytes()
