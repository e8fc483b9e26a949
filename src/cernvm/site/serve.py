"""A site cloud as a process: network, hypervisor, mounts, supervisor, API and metadata service put together.

Everything a site starts ends with it, however it ends: mounts live in its own mount namespace, instances and mount
processes are tied to its life by the kernel, its network is held by its descriptors. What it remembers is in
`$CVM_HOME/site`, which one process at a time may hold.
"""

from __future__ import annotations

import configparser
import io
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from cernvm.core.errors import ConflictError, CvmError, DeniedError, PrerequisiteError
from cernvm.core.home import Home, ensure_folder, write_private
from cernvm.core.linux import CLONE_NEWNS, MS_REC, MS_SLAVE, mount, unshare
from cernvm.core.lock import take_lock
from cernvm.core.log import fields
from cernvm.core.process import record_process
from cernvm.net.listening import open_listener
from cernvm.site.actions import Actions
from cernvm.site.api import create_api
from cernvm.site.bridge import BridgeNetwork
from cernvm.site.config import SiteConfig
from cernvm.site.exports import RepositoryMounts
from cernvm.site.forward import Forward
from cernvm.site.hypervisor.container import ContainerHypervisor
from cernvm.site.hypervisor.memory import MemoryHypervisor
from cernvm.site.hypervisor.port import Hypervisor
from cernvm.site.lifecycle import Lifecycle
from cernvm.site.listener import serve_application
from cernvm.site.metadata import HOP_LIMIT, PER_INSTANCE, create_metadata
from cernvm.site.network import METADATA_ADDRESS, LoopbackNetwork, SiteNetwork
from cernvm.site.state import AccessKey, Limits, SiteState, open_state
from cernvm.site.trees import FolderTrees, Trees

log = logging.getLogger(__name__)

SERVICE = "site"
HOST = "127.0.0.1"
METADATA_PORT = 80


@dataclass(frozen=True, slots=True)
class Machinery:
    """What a site's instances run on."""

    network: SiteNetwork
    hypervisor: Hypervisor
    trees: Trees


def run_site(
    home: Home,
    config: SiteConfig,
    *,
    port: int,
    owner_id: str,
    announce: Callable[[str], None],
) -> None:
    """Be the site until SIGTERM or SIGINT; `announce` gets the API's URL once everything listens.

    Errors: `PrerequisiteError` without the rights a container hypervisor needs, `AddressInUseError` for a taken port,
    `ConflictError` while another process is this site.
    Concurrency: call from the main thread of a process that does nothing else: it leaves its mount namespace.
    """
    if config.hypervisor == "container":
        _leave_mount_namespace()
    with _only_one(ensure_folder(home.site, mode=0o700)):
        listener = open_listener(HOST, port)
        with listener:
            state = open_state(home.site)
            try:
                state.offer_images(config.offered)
                key = state.ensure_owner(owner_id)
                anyio.run(_serve, home, config, state, listener, key, announce)
            except ExceptionGroup as group:
                raise _cause(group) from group
            finally:
                state.close()


def _cause(group: ExceptionGroup[Exception]) -> Exception:
    """The error that ended the site, out of the task groups' wrapping; anything unforeseen stays as it is."""
    known, unforeseen = group.split(CvmError)
    error: Exception | None = known
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return group if unforeseen or error is None else error


async def _serve(
    home: Home,
    config: SiteConfig,
    state: SiteState,
    listener: socket.socket,
    key: AccessKey,
    announce: Callable[[str], None],
) -> None:
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    stop = anyio.Event()
    record = home.run / f"{SERVICE}.json"
    async with AsyncExitStack() as stack:
        machinery = await _open_machinery(home, config, stack)
        lifecycle = Lifecycle(
            state,
            machinery.hypervisor,
            machinery.trees,
            repositories=tuple(repository.name for repository in config.repositories),
        )
        limits = Limits(config.instances_max, config.network)
        actions = Actions(state, lifecycle, limits, config.name, url)
        metadata = create_metadata(
            state.instance_at, require_token=config.metadata_tokens == "required"
        )
        doors = [
            Forward(
                machinery.network.listen(config.gateway, door.port), door.host, door.target_port
            )
            for door in config.forwards
        ]
        metadata_listener = _metadata_listener(machinery.network)
        await lifecycle.resume()
        async with anyio.create_task_group() as servers, anyio.create_task_group() as background:
            await background.start(_heed_signals, stop)
            servers.start_soon(
                partial(
                    serve_application, metadata, metadata_listener, stop, per_client=PER_INSTANCE
                )
            )
            servers.start_soon(serve_application, create_api(actions, state), listener, stop)
            for door in doors:
                background.start_soon(door.serve)
            background.start_soon(lifecycle.run)
            write_region(home.clouds, config.name, key, url)
            record_process(
                record, f"cvm site serve ({config.name})", address=url.partition("//")[2]
            )
            announce(url)
            await stop.wait()
            record.unlink(missing_ok=True)
            background.cancel_scope.cancel()


async def _open_machinery(home: Home, config: SiteConfig, stack: AsyncExitStack) -> Machinery:
    if config.hypervisor == "memory":
        folders = {image.repository: home.site for image in config.images}
        return Machinery(LoopbackNetwork(config.network), MemoryHypervisor(), FolderTrees(folders))
    network = BridgeNetwork(config.network)
    stack.callback(network.close)
    mounts = await stack.enter_async_context(
        RepositoryMounts(
            config.repositories,
            folder=home.site / "mounts",
            cache=home.cache,
            log_folder=home.log,
        )
    )
    hypervisor = await stack.enter_async_context(
        ContainerHypervisor(home.site / "instances", network)
    )
    return Machinery(network, hypervisor, mounts)


def _metadata_listener(network: SiteNetwork) -> socket.socket:
    listener = network.listen(METADATA_ADDRESS, METADATA_PORT)
    # accepted connections inherit it
    listener.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, HOP_LIMIT)
    log.info("metadata.listening", extra=fields(address=listener.getsockname()))
    return listener


async def _heed_signals(
    stop: anyio.Event, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            stop.set()


def write_region(folder: Path, name: str, key: AccessKey, url: str) -> Path:
    """Write the file by which `cvm --region NAME` finds this site and signs its requests; private."""
    ensure_folder(folder, mode=0o700)
    file = configparser.ConfigParser(interpolation=None)
    file.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    file["Credentials"] = {
        "access_key_id": key.access_key_id,
        "secret_access_key": key.secret_access_key,
    }
    file["Service"] = {"Region": name, "Url": url}
    text = io.StringIO()
    file.write(text)
    path = folder / f"{name}.conf"
    write_private(path, text.getvalue().encode())
    return path


def _leave_mount_namespace() -> None:
    """From here on, what this process and its children mount is seen by them only, and ends with them."""
    try:
        unshare(CLONE_NEWNS)
        mount("none", "/", flags=MS_REC | MS_SLAVE)
    except PermissionError:
        raise PrerequisiteError(
            "a site with containers needs the right to mount",
            advice="run it as root, or in a user namespace: unshare --user --map-root-user --mount --net",
        ) from None
    except OSError as error:
        raise PrerequisiteError(
            f"this machine refuses a mount namespace: {error.strerror}",
            advice="check /proc/sys/user/max_mnt_namespaces",
        ) from error


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    in_use = ConflictError(
        "another process is the site of this data folder",
        advice="cvm site status shows it; another CVM_HOME makes another site",
    )
    try:
        descriptor = take_lock(folder / "site.lock", in_use)
    except OSError as error:
        raise DeniedError(f"{folder} cannot be locked: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)
