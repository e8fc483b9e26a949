"""A repository's keys as files: who holds them may sign.

Shape: `NAME.masterkey` (secret) signs the whitelist, `NAME.pub` is its public half, which clients are given;
`NAME.key` (secret) signs manifests, `NAME.crt` is its certificate, which the whitelist lists. While they are replaced
`NAME.next.key` and `NAME.next.crt` lie beside them. `NAME.ed25519` (secret) and `NAME.ed25519.pub` are for the second
signature, where there is one; `NAME.listed` says until when certificates that are not in use any more stay listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cernvm.core.errors import DeniedError, ExistsError, PrerequisiteError
from cernvm.core.home import ensure_folder, write_atomically, write_private
from cernvm.fs.format.signature import create_certificate, create_private_key, public_key_of


@dataclass(frozen=True, slots=True)
class Keys:
    """Where the four files of repository `name` lie."""

    folder: Path
    name: str

    @property
    def public(self) -> Path:
        """The master key's public half: what clients trust."""
        return self.folder / f"{self.name}.pub"

    @property
    def master(self) -> Path:
        """The secret that signs whitelists; it may be kept elsewhere between two of them."""
        return self.folder / f"{self.name}.masterkey"

    @property
    def certificate(self) -> Path:
        """The certificate of the signing key."""
        return self.folder / f"{self.name}.crt"

    @property
    def signing(self) -> Path:
        """The secret that signs manifests."""
        return self.folder / f"{self.name}.key"

    @property
    def next_certificate(self) -> Path:
        """The certificate that will be used after this one."""
        return self.folder / f"{self.name}.next.crt"

    @property
    def next_signing(self) -> Path:
        """The secret of the next certificate."""
        return self.folder / f"{self.name}.next.key"

    @property
    def second(self) -> Path:
        """The secret that makes the second signature."""
        return self.folder / f"{self.name}.ed25519"

    @property
    def second_public(self) -> Path:
        """What clients are given who ask for the second signature."""
        return self.folder / f"{self.name}.ed25519.pub"

    @property
    def gateway(self) -> Path:
        """The secret by which another machine publishes through a gateway."""
        return self.folder / f"{self.name}.gw"

    @property
    def listed(self) -> Path:
        """Until when a whitelist lists certificates that are not in use."""
        return self.folder / f"{self.name}.listed"

    @property
    def own_certificates(self) -> tuple[Path, ...]:
        """The certificates that may have signed the last manifest."""
        return tuple(
            path for path in (self.certificate, self.next_certificate) if path.is_file()
        ) or (self.certificate,)

    @property
    def are_complete(self) -> bool:
        """Whether all four files exist."""
        return all(path.is_file() for path in self.files)

    @property
    def secrets(self) -> tuple[Path, ...]:
        """All that nobody else may have, whether they are there or not."""
        return self.master, self.signing, self.next_signing, self.second, self.gateway

    @property
    def files(self) -> tuple[Path, Path, Path, Path]:
        """All four files."""
        return self.public, self.master, self.certificate, self.signing


def create_keys(keys: Keys, *, now: datetime) -> None:
    """Make and write all four files, the secret ones with mode 0600.

    The public key comes last: without it nobody can have relied on the others, which a crash may have left.
    Errors: `ExistsError` when it is there, whatever else is.
    """
    ensure_folder(keys.folder)
    if keys.public.exists():
        raise ExistsError(
            "public key",
            str(keys.public),
            advice="copy the other keys there, or choose other --keys",
        )
    master, signing = create_private_key(), create_private_key()
    write_private(keys.master, master)
    write_private(keys.signing, signing)
    write_atomically(keys.certificate, create_certificate(signing, name=keys.name, now=now))
    write_atomically(keys.public, public_key_of(master))


def finish_rotation(keys: Keys) -> None:
    """Complete an exchange of the signing key that died between its two files."""
    if keys.next_certificate.is_file() and not keys.next_signing.is_file():
        keys.next_certificate.replace(keys.certificate)


def read_key(path: Path) -> bytes:
    """The PEM in one of the files; `PrerequisiteError` where it is missing, `DeniedError` where it may not be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PrerequisiteError(
            f"the key {path} is missing", advice="copy it there from the publisher that has it"
        ) from None
    except PermissionError:
        raise DeniedError(
            f"the key {path} may not be read", advice="publish as its owner"
        ) from None
