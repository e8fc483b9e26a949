"""The account files passwd, group, shadow and gshadow: their text with an account in it.

Pure, and without useradd: the same code serves a running instance, an image below a folder, and systems that have no
such program. Source: passwd(5), group(5), shadow(5), gshadow(5).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cernvm.context.kinds import Account
from cernvm.core.errors import ExistsError, InvalidInputError
from cernvm.guest.password import hash_password, matches

FIRST_USER_ID = 1000
LAST_USER_ID = 59999
_LOCKED = "!"


@dataclass(frozen=True, slots=True)
class AccountFiles:
    """The four files' text; `gshadow` is None where a system has none."""

    passwd: str
    group: str
    shadow: str = field(repr=False)
    gshadow: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """An account as it is on the system."""

    user: str
    uid: int
    gid: int
    home: str


def with_account(
    files: AccountFiles, account: Account, shell: str, *, today_days: int
) -> tuple[AccountFiles, Login]:
    """The files with this account in them, unchanged where it is there already, and the account.

    Units: `today_days` counts from 1970, as shadow(5) does.
    Errors: `ExistsError` when the name is a system's account or has another group; `InvalidInputError` when the
    files cannot be read or no number is free.
    """
    row = _find(files.passwd, account.user)
    uid = _free_id(files)
    files, gid = _with_group(files, account.group, uid)
    if row is None:
        home = f"/home/{account.user}"
        line = f"{account.user}:x:{uid}:{gid}::{home}:{shell}"
        files = replace(files, passwd=_append(files.passwd, line))
        login = Login(account.user, uid, gid, home)
    else:
        login = _existing(row, account, gid)
        files = replace(files, passwd=_replace(files.passwd, [*row[:6], shell]))
    return replace(files, shadow=_with_password(files.shadow, account, today_days)), login


def find_login(passwd: str, user: str) -> Login | None:
    """The account of that name; None where there is none."""
    row = _find(passwd, user)
    return _login(row) if row else None


def _with_group(files: AccountFiles, name: str, free_id: int) -> tuple[AccountFiles, int]:
    row = _find(files.group, name)
    if row is not None:
        return files, _number(row[2], name)
    files = replace(files, group=_append(files.group, f"{name}:x:{free_id}:"))
    if files.gshadow is not None and _find(files.gshadow, name) is None:
        files = replace(files, gshadow=_append(files.gshadow, f"{name}:!::"))
    return files, free_id


def _existing(row: list[str], account: Account, gid: int) -> Login:
    login = _login(row)
    if login.uid < FIRST_USER_ID:
        raise ExistsError("system account", account.user, advice="choose another user name")
    if login.gid != gid:
        raise ExistsError(
            "account",
            account.user,
            advice=f"it has another primary group than {account.group}: name that one",
        )
    return login


def _with_password(shadow: str, account: Account, today_days: int) -> str:
    row = _find(shadow, account.user)
    current = row[1] if row else ""
    if account.password:
        is_right = matches(account.password, current)
        wanted = current if is_right else hash_password(account.password)
    else:
        wanted = current if current[:1] in ("!", "*") else _LOCKED
    if row is None:
        return _append(shadow, f"{account.user}:{wanted}:{today_days}:0:99999:7:::")
    if wanted == current:
        return shadow
    return _replace(shadow, [row[0], wanted, str(today_days), *row[3:]])


def _free_id(files: AccountFiles) -> int:
    """The first number that is free both as a user's and as a group's."""
    taken = {row[2] for text in (files.passwd, files.group) for row in _rows(text) if len(row) > 2}
    for number in range(FIRST_USER_ID, LAST_USER_ID + 1):
        if str(number) not in taken:
            return number
    raise InvalidInputError("no user number is free")


def _login(row: list[str]) -> Login:
    if len(row) != 7:
        raise InvalidInputError(f"/etc/passwd: the line of {row[0]} has {len(row)} fields, not 7")
    return Login(row[0], _number(row[2], row[0]), _number(row[3], row[0]), row[5])


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidInputError(f"the account files give {name} no number")
    return int(text)


def _rows(text: str) -> list[list[str]]:
    return [line.split(":") for line in text.split("\n") if line]


def _find(text: str, name: str) -> list[str] | None:
    return next((row for row in _rows(text) if row[0] == name and len(row) > 1), None)


def _append(text: str, line: str) -> str:
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"


def _replace(text: str, row: list[str]) -> str:
    lines = text.split("\n")
    return "\n".join(":".join(row) if line.split(":")[0] == row[0] else line for line in lines)
