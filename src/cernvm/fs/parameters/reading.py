"""Which files configure a repository, in the original's order, and reading them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Protocol

from cernvm.core.errors import FormatError, InvalidInputError, TrustError, UnavailableError
from cernvm.fs.parameters.documents import Below, Documents, FolderDocuments
from cernvm.fs.parameters.evaluate import Evaluator
from cernvm.fs.parameters.known import unknown_warnings
from cernvm.fs.parameters.values import PREFIX, Origin, Parameters, Warned

ROOT = PurePosixPath("/etc/cvmfs")
MOUNT_DIR = PurePosixPath("/cvmfs")
DEFAULT_KEYS_DIR = "/etc/cvmfs/keys"
MAX_KEYS = 64

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,252}")


class OpenRepository(Protocol):
    """Opens a repository, by its own parameters, to read documents out of its root `/`."""

    def __call__(self, parameters: Parameters, /) -> AbstractContextManager[Documents]: ...


def read_parameters(
    repository: str,
    *,
    root: PurePosixPath = ROOT,
    environment: Mapping[str, str] | None = None,
    documents: Documents | None = None,
    open_repository: OpenRepository | None = None,
) -> Parameters:
    """What `/etc/cvmfs`, and the configuration repository that it names, say of a repository.

    Shape: references in the files see `environment`; `documents` are this machine's files unless given. Without
    `open_repository`, a configuration repository is left out and that is told.
    Errors: `ConfigError` naming file and line; `UnavailableError`, `TrustError` or `FormatError` when a required
    configuration repository cannot be read.
    """
    name = full_name(repository, root=root, documents=documents)
    local = documents or FolderDocuments()
    seen = dict(environment or {})
    without = _evaluate(name, root, seen, local, None)
    config = without.text("CVMFS_CONFIG_REPOSITORY")
    if not config or config == name:
        return without
    _check_config_repository(without, config)
    folder = PurePosixPath(without.text("CVMFS_MOUNT_DIR", str(MOUNT_DIR))) / config
    with ExitStack() as opened:
        try:
            if open_repository is None:
                raise UnavailableError(f"the configuration repository {config} was not opened")
            own = _evaluate(config, root, seen, local, None)
            inner = opened.enter_context(open_repository(own))
            both = Below(folder, inner, local)
            return _evaluate(name, root, seen, both, folder / "etc/cvmfs")
        except (UnavailableError, TrustError, FormatError) as error:
            if without.switch("CVMFS_CONFIG_REPO_REQUIRED"):
                raise
            told = Warned(Origin(config), f"it cannot be read, and is left out: {error.what}")
            return replace(without, warnings=(*without.warnings, told))


def read_defaults(
    *,
    root: PurePosixPath = ROOT,
    environment: Mapping[str, str] | None = None,
    documents: Documents | None = None,
) -> Parameters:
    """What holds for all repositories of this machine. Errors: `ConfigError` naming file and line."""
    return _evaluate("", root, environment or {}, documents or FolderDocuments(), None)


def full_name(
    repository: str, *, root: PurePosixPath = ROOT, documents: Documents | None = None
) -> str:
    """A repository's name with `CVMFS_DEFAULT_DOMAIN` added to one without a dot. Errors: `InvalidInputError`."""
    if not _NAME.fullmatch(repository) or ".." in repository:
        raise InvalidInputError(f"{repository[:80]!r} is no name of a repository")
    if "." in repository:
        return repository
    domain = read_defaults(root=root, documents=documents).text("CVMFS_DEFAULT_DOMAIN")
    return f"{repository}.{domain}" if domain else repository


def config_files(
    repository: str, root: PurePosixPath, config_root: PurePosixPath | None, documents: Documents
) -> Iterator[PurePosixPath]:
    """The files that configure a repository, whether or not they exist, in order: a later one wins."""
    yield from _early_files(root, documents)
    yield from _late_files(repository, root, config_root)


def _early_files(root: PurePosixPath, documents: Documents) -> Iterator[PurePosixPath]:
    yield root / "default.conf"
    for name in documents.names(root / "default.d"):
        if name.endswith(".conf"):
            yield root / "default.d" / name


def _late_files(
    repository: str, root: PurePosixPath, config_root: PurePosixPath | None
) -> Iterator[PurePosixPath]:
    roots = [root] if config_root is None else [config_root, root]
    if config_root is not None:
        yield config_root / "default.conf"
    yield root / "default.local"
    domain = repository.partition(".")[2]
    for folder, name in (("domain.d", domain), ("config.d", repository)):
        if name:
            yield from (each / folder / f"{name}.conf" for each in roots)
            yield root / folder / f"{name}.local"


def _evaluate(
    repository: str,
    root: PurePosixPath,
    environment: Mapping[str, str],
    documents: Documents,
    config_root: PurePosixPath | None,
) -> Parameters:
    evaluator = Evaluator(documents, {**environment, "CVMFS_FQRN": repository})
    for path in _early_files(root, documents):
        evaluator.run_file(path)
    for name in ("CVMFS_CONFIG_REPOSITORY", "CVMFS_CONFIG_REPO_REQUIRED"):
        evaluator.finish(name)
    for path in _late_files(repository, root, config_root):
        evaluator.run_file(path)
    warnings = (*evaluator.warnings, *unknown_warnings(evaluator.settings))
    found = Parameters(repository, evaluator.settings, warnings, tuple(evaluator.files))
    blacklists = _blacklists(found, documents, root, config_root)
    return replace(found, keys=tuple(_keys(found, documents)), blacklists=tuple(blacklists))


def _blacklists(
    parameters: Parameters,
    documents: Documents,
    root: PurePosixPath,
    config_root: PurePosixPath | None,
) -> Iterator[tuple[str, bytes]]:
    """This machine's blacklist, and that of the configuration repository."""
    own = PurePosixPath(parameters.text("CVMFS_BLACKLIST", str(root / "blacklist")))
    yield str(own), documents.read(own) or b""
    if config_root is not None:
        yield str(config_root / "blacklist"), documents.read(config_root / "blacklist") or b""


def _keys(parameters: Parameters, documents: Documents) -> Iterator[tuple[str, bytes]]:
    """The master keys, read while the repository that they may lie in is open."""
    named = [part for part in parameters.text("CVMFS_PUBLIC_KEY").split(":") if part]
    if not named:
        folder = PurePosixPath(parameters.text("CVMFS_KEYS_DIR", DEFAULT_KEYS_DIR))
        named = [str(folder / name) for name in documents.names(folder) if name.endswith(".pub")]
    for name in named[:MAX_KEYS]:
        key = documents.read(PurePosixPath(name))
        if key is not None:
            yield name, key


def _check_config_repository(parameters: Parameters, name: str) -> None:
    if not _NAME.fullmatch(name) or "." not in name or ".." in name:
        raise parameters.error(f"{PREFIX}CONFIG_REPOSITORY", f"{name[:80]!r} is no repository")
