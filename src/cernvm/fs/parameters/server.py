"""What the original's server says of a repository that it publishes: `server.conf`, as a record of ours.

Source: docs/how-to/move-from-the-original.md
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cernvm.core.errors import NotFoundError
from cernvm.core.home import Home
from cernvm.fs.format.compress import Compression
from cernvm.fs.parameters.documents import Documents, FolderDocuments
from cernvm.fs.parameters.evaluate import Evaluator
from cernvm.fs.parameters.values import Parameters
from cernvm.fs.publish.repository import Repository, new_repository
from cernvm.fs.publish.settings import Settings

ROOT = PurePosixPath("/etc/cvmfs/repositories.d")
KEYS = Path("/etc/cvmfs/keys")
_COMPRESSIONS = {"default": Compression.ZLIB, "zlib": Compression.ZLIB, "none": Compression.NONE}


@dataclass(frozen=True, slots=True)
class ServerParameters:
    """A repository as the original publishes it; `storage` is where its objects lie, or empty for no local folder."""

    storage: str
    compression: Compression
    settings: Settings


def read_server_parameters(
    name: str, *, root: PurePosixPath = ROOT, documents: Documents | None = None
) -> ServerParameters:
    """What `ROOT/NAME/server.conf` says.

    Errors: `NotFoundError` where there is none, `ConfigError` naming file and line for values that cannot be.
    """
    path = root / name / "server.conf"
    evaluator = Evaluator(documents or FolderDocuments(), {})
    if not evaluator.run_file(path):
        raise NotFoundError(
            "configuration of the original", str(path), advice="name the folder with --storage"
        )
    told = Parameters(name, evaluator.settings)
    compression = told.text("CVMFS_COMPRESSION_ALGORITHM", "default")
    if compression not in _COMPRESSIONS:
        raise told.error("CVMFS_COMPRESSION_ALGORITHM", f"{compression[:40]!r} is not known")
    return ServerParameters(_storage(told), _COMPRESSIONS[compression], _settings(told))


def repository_of(
    home: Home, name: str, parameters: ServerParameters, *, keys: Path = KEYS
) -> Repository:
    """The repository as it would be published from here."""
    return new_repository(
        home,
        name,
        storage=parameters.storage,
        keys=keys,
        compression=parameters.compression,
        settings=parameters.settings,
    )


def _storage(told: Parameters) -> str:
    """The folder of `local,TEMPORARY,FOLDER`."""
    name = "CVMFS_UPSTREAM_STORAGE"
    kind, _, rest = told.text(name).partition(",")
    folder = rest.partition(",")[2]
    if kind == "local" and PurePosixPath(folder).is_absolute():
        return folder
    if kind in ("s3", "gw"):
        return ""
    raise told.error(name, "it is no upstream storage")


def _settings(told: Parameters) -> Settings:
    usual = Settings()
    return Settings(
        xattrs=told.switch("CVMFS_INCLUDE_XATTRS"),
        mtime_ns=told.switch("CVMFS_ENABLE_MTIME_NS"),
        chunking=told.switch("CVMFS_USE_FILE_CHUNKING", default=True),
        chunk_least_bytes=told.number("CVMFS_MIN_CHUNK_SIZE", usual.chunk_least_bytes, least=1),
        chunk_mean_bytes=told.number("CVMFS_AVG_CHUNK_SIZE", usual.chunk_mean_bytes, least=1),
        chunk_most_bytes=told.number("CVMFS_MAX_CHUNK_SIZE", usual.chunk_most_bytes, least=1),
        legacy_bulk_hash=told.switch("CVMFS_GENERATE_LEGACY_BULK_CHUNKS"),
        external=told.switch("CVMFS_EXTERNAL_DATA"),
        catalogs=told.switch("CVMFS_AUTOCATALOGS"),
        most_entries=told.number("CVMFS_AUTOCATALOGS_MAX_WEIGHT", usual.most_entries, least=1),
        fewest_entries=told.number("CVMFS_AUTOCATALOGS_MIN_WEIGHT", usual.fewest_entries, least=1),
        limits=told.switch("CVMFS_ENFORCE_LIMITS"),
        automatic_tag=told.switch("CVMFS_AUTO_TAG", default=True),
        ttl_s=told.number("CVMFS_REPOSITORY_TTL", 0) or None,
        gc=told.switch("CVMFS_GARBAGE_COLLECTION"),
    )
