"""How a bucket is reached: a private file in TOML, or the original's S3 configuration file.

Format: docs/formats/stores.md, "The file of an S3 store".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from cernvm.core.config import read_toml
from cernvm.core.errors import ConfigError, DeniedError, NotFoundError

_ORIGINAL_LINE = re.compile(r"\s*(?:export\s+)?CVMFS_S3_([A-Z_]+)=(.*)")
_ADDRESSINGS = ("auto", "path", "virtual")
_VERIFICATIONS = ("head", "full", "none")
_SIGNATURES = ("s3v4", "s3")


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Where a bucket is, with which keys, and how much it is trusted.

    Shape: without `endpoint`, Amazon's for `region`; without keys, those that the machine or the environment gives.
    `verify`: `head` asks after each write for size and checksum, `full` reads every object back, `none` believes.
    """

    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    addressing: str = "auto"
    signature: str = "s3v4"
    acl: str = ""
    proxy: str = ""
    lanes: int = 16
    attempts: int = 5
    timeout_s: float = 60.0
    verify: str = "head"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("addressing", self.addressing, _ADDRESSINGS),
            ("verify", self.verify, _VERIFICATIONS),
            ("signature", self.signature, _SIGNATURES),
        ):
            if value not in known:
                raise ConfigError(f"{value!r} is none of {', '.join(known)}", key=name)
        if bool(self.access_key) != bool(self.secret_key):
            raise ConfigError("access_key and secret_key belong together", key="secret_key")
        if not (1 <= self.lanes <= 256 and 1 <= self.attempts <= 20 and 0 < self.timeout_s <= 3600):
            raise ConfigError(
                "lanes (1-256), attempts (1-20) or timeout_s (to 3600) is out of range"
            )


def read_settings(path: Path | None, *, bucket: str) -> S3Settings:
    """The settings in a file; the defaults without one.

    Errors: `NotFoundError`, `DeniedError` for a file with keys that others can read, `ConfigError`.
    """
    if path is None:
        return S3Settings()
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise NotFoundError("file of an S3 store", str(path)) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"it cannot be read: {exc}", source=str(path)) from None
    original = dict(_original_values(text))
    try:
        settings = _from_original(original, bucket) if original else read_toml(path, S3Settings)
    except ConfigError as exc:
        raise exc if exc.source else ConfigError(exc.what, source=str(path), key=exc.key) from None
    if settings.secret_key and mode & 0o077:
        raise DeniedError(
            f"{path} holds a secret key and others can read it", advice=f"chmod 600 {path}"
        )
    return settings


def _original_values(text: str) -> list[tuple[str, str]]:
    found = (_ORIGINAL_LINE.fullmatch(line) for line in text.splitlines())
    return [(match[1], match[2].strip().strip("'\"")) for match in found if match]


def _from_original(values: dict[str, str], bucket: str) -> S3Settings:
    """What the keys CVMFS_S3_* of the original's file mean; those that have no meaning here are left out."""
    if values.get("FLAVOR") == "azure":
        raise ConfigError("only servers that speak S3 are known", key="CVMFS_S3_FLAVOR")
    if values.get("BUCKET", bucket) != bucket:
        raise ConfigError(f"it is for another bucket than {bucket}", key="CVMFS_S3_BUCKET")
    scheme = "https" if _is_on(values.get("USE_HTTPS", "no")) else "http"
    port = f":{values['PORT']}" if values.get("PORT") else ""
    region = values.get("REGION", "")
    is_second = values.get("FLAVOR", "awsv4" if region else "awsv2") == "awsv2"
    try:
        return S3Settings(
            endpoint=f"{scheme}://{values['HOST']}{port}",
            region=region or "us-east-1",
            access_key=values.get("ACCESS_KEY", ""),
            secret_key=values.get("SECRET_KEY", ""),
            addressing="virtual" if _is_on(values.get("DNS_BUCKETS", "yes")) else "path",
            signature="s3" if is_second else "s3v4",
            acl=values.get("X_AMZ_ACL", "public-read"),
            proxy=values.get("PROXY", ""),
            lanes=int(values.get("MAX_NUMBER_OF_PARALLEL_CONNECTIONS", "16")),
            attempts=int(values.get("MAX_RETRIES", "4")) + 1,
            timeout_s=float(values.get("TIMEOUT", "60")),
        )
    except KeyError as exc:
        raise ConfigError("this setting is missing", key=f"CVMFS_S3_{exc.args[0]}") from None
    except ValueError as exc:
        raise ConfigError(f"it is no number: {exc}") from None


def _is_on(value: str) -> bool:
    return value.lower() in ("1", "on", "yes", "true")
