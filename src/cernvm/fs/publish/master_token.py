"""A master key in a PKCS#11 token, which signs and never gives it away.

Shape: `pkcs11:token=LABEL;object=LABEL?module-path=/…/lib.so&pin-source=/…/file`; without a `pin-source` the PIN is
asked for on the terminal. It is never part of the location, which others may read.
Source: RFC 7512.
"""

from __future__ import annotations

import getpass
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cernvm.core.errors import DeniedError, InvalidInputError, PrerequisiteError

_MAX_PIN_BYTES = 256
_PART = re.compile(r"[;?&]")
_KNOWN = {"token", "object", "module-path", "pin-source"}


@dataclass(frozen=True, slots=True)
class TokenMasterKey:
    """A private key on a token: which library speaks to it, which token and key, and where its PIN lies."""

    module: str
    token: str
    label: str
    pin_file: Path | None

    @property
    def is_at_hand(self) -> bool:
        return self.pin_file is not None

    def sign(self, text: bytes) -> bytes:
        pkcs11 = _library()
        try:
            token = pkcs11.lib(self.module).get_token(token_label=self.token)
            with token.open(user_pin=self._pin()) as session:
                key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=self.label)
                return bytes(key.sign(text, mechanism=pkcs11.Mechanism.RSA_PKCS))
        except (pkcs11.PinIncorrect, pkcs11.PinLocked) as error:
            raise DeniedError(f"the token {self.token} refuses the PIN") from error
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            reason = str(error) or type(error).__name__
            raise PrerequisiteError(
                f"the token {self.token} does not sign: {reason}",
                advice="check module-path, token and object of the master key's location",
            ) from error

    def _pin(self) -> str:
        if self.pin_file is not None:
            try:
                with self.pin_file.open("rb") as file:
                    return file.read(_MAX_PIN_BYTES).decode().strip()
            except OSError as error:
                raise PrerequisiteError(
                    f"the PIN in {self.pin_file} cannot be read: {error.strerror}"
                ) from error
        if not sys.stdin.isatty():
            raise PrerequisiteError(
                f"there is nobody to ask for the PIN of the token {self.token}",
                advice="name a file of mode 0600 that holds it: pin-source=/…",
            )
        return getpass.getpass(f"PIN of the token {self.token}: ")


def parse_token(location: str) -> TokenMasterKey:
    """The key that a PKCS#11 URI names. Errors: `InvalidInputError`.

    >>> parse_token("pkcs11:token=cern;object=master?module-path=/lib/p11.so").label
    'master'
    """
    parts = dict[str, str]()
    for part in _PART.split(location.removeprefix("pkcs11:")):
        key, equals, value = part.partition("=")
        if not equals or key not in _KNOWN or key in parts:
            raise InvalidInputError(
                f"{part[:80]!r} has no place in a token's location",
                advice="write pkcs11:token=…;object=…?module-path=…&pin-source=…",
            )
        parts[key] = unquote(value)
    if missing := {"token", "object", "module-path"} - parts.keys():
        raise InvalidInputError(f"the token's location lacks {', '.join(sorted(missing))}")
    pin = parts.get("pin-source", "").removeprefix("file:")
    return TokenMasterKey(
        parts["module-path"], parts["token"], parts["object"], Path(pin) if pin else None
    )


def _library() -> Any:
    try:
        import pkcs11  # noqa: PLC0415  # an extra
    except ImportError:
        raise PrerequisiteError(
            "the library for tokens is missing", advice="install it: pip install 'cernvm[pkcs11]'"
        ) from None
    return pkcs11
