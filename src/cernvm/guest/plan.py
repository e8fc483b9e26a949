"""From a context to the steps that make an instance play its role. Pure.

Order matters twice: steps run as listed, and a step that fails stops those that need it.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field

from cernvm.context.kinds import Account, Command
from cernvm.context.reading import Context, PilotAccess
from cernvm.guest.sources.port import InstanceData

SITE_CONF = "/etc/cernvm/site.conf"
PILOT_TOML = "/etc/cernvm/pilot.toml"
PROFILE = "/etc/profile.d/cernvm.sh"
ENVIRONMENT = "/etc/environment"
HOSTS = "/etc/hosts"


@dataclass(frozen=True, slots=True)
class SetHostname:
    """Name the machine."""

    name: str
    hostname: str


@dataclass(frozen=True, slots=True)
class WriteFile:
    """A file with exactly this content; `owner` is a user, root when empty."""

    name: str
    path: str
    content: bytes = field(repr=False)
    mode: int = 0o644
    owner: str = ""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WriteBlock:
    """Lines of ours inside a file that others write too."""

    name: str
    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EnsureAccount:
    """A user with group, home folder and login shell."""

    name: str
    account: Account
    shell: str


@dataclass(frozen=True, slots=True)
class RequireRepository:
    """A repository that must be readable below /cvmfs; a name without dots stands for the one that begins with it."""

    name: str
    repository: str


Step = SetHostname | WriteFile | WriteBlock | EnsureAccount | RequireRepository


@dataclass(frozen=True, slots=True)
class Launch:
    """The program to start once every step it needs is done."""

    command: Command
    environment: tuple[tuple[str, str], ...]
    needs: tuple[str, ...]
    name: str = "command"


@dataclass(frozen=True, slots=True)
class Plan:
    """All there is to do, in order."""

    steps: tuple[Step, ...] = ()
    launch: Launch | None = None


def make_plan(context: Context, instance: InstanceData) -> Plan:
    """The steps for a context on the instance that a cloud describes."""
    steps: list[Step] = [
        *_naming(context.hostname or instance.hostname, instance.ipv4),
        *(
            EnsureAccount(f"account:{account.user}", account, context.shell)
            for account in context.users
        ),
        *_site_conf(context),
        *_environment(context),
        *(RequireRepository(f"repository:{name}", name) for name in context.repositories),
    ]
    if context.pilot and context.users:
        steps.append(_pilot_toml(context.pilot, context.users[0].user))
    return Plan(tuple(steps), _launch(context, steps))


def _naming(hostname: str, ipv4: str) -> list[Step]:
    if not hostname:
        return []
    names = dict.fromkeys((hostname, hostname.partition(".")[0]))
    lines = ["127.0.0.1 localhost", f"{ipv4 or '127.0.1.1'} {' '.join(names)}"]
    return [SetHostname("hostname", hostname), WriteBlock("hosts", HOSTS, tuple(lines))]


def _site_conf(context: Context) -> list[Step]:
    values = {
        "CERNVM_ORGANISATION": ",".join(context.organisations),
        "CVMFS_REPOSITORIES": ",".join(context.repositories),
        "CVMFS_HTTP_PROXY": context.proxy,
    }
    lines = [f"{key}={shlex.quote(value)}\n" for key, value in values.items() if value]
    return [WriteFile("site-conf", SITE_CONF, "".join(lines).encode())] if lines else []


def _environment(context: Context) -> list[Step]:
    if not context.environment:
        return []
    exports = "".join(f"export {key}={shlex.quote(text)}\n" for key, text in context.environment)
    # pam_env knows neither quotes inside values nor comments behind them: what it would garble stays out
    plain = tuple(
        f'{key}="{text}"' for key, text in context.environment if not set(text) & set("\"'#\\$")
    )
    steps: list[Step] = [WriteFile("environment", PROFILE, exports.encode())]
    return [*steps, WriteBlock("environment-file", ENVIRONMENT, plain)] if plain else steps


def _pilot_toml(pilot: PilotAccess, owner: str) -> Step:
    rows = {
        "server": pilot.server,
        "jid": pilot.jid,
        "password": pilot.password,
        "manager": pilot.manager,
    }
    # values have no control characters, so JSON's strings are TOML's
    text = "".join(
        f"{key} = {json.dumps(text, ensure_ascii=False)}\n" for key, text in rows.items()
    )
    return WriteFile(
        "pilot-config",
        PILOT_TOML,
        text.encode(),
        mode=0o600,
        owner=owner,
        needs=(f"account:{owner}",),
    )


def _launch(context: Context, steps: list[Step]) -> Launch | None:
    if context.command is None:
        return None
    user = context.command.user
    needed = {f"account:{user}", "environment", "pilot-config"}
    needs = tuple(
        step.name for step in steps if step.name in needed or isinstance(step, RequireRepository)
    )
    return Launch(context.command, context.environment, needs)
