import asyncio
import socket
import stat

import anyio
import pytest

from cernvm.core.errors import AddressInUseError, BusError, DeniedError, InvalidInputError
from cernvm.messaging import Presence
from cernvm.messaging.prosody import BusServer, format_config, renew_account, start_prosody
from cernvm.messaging.xmpp import Account, connect_xmpp

pytestmark = pytest.mark.anyio


async def test_a_command_survives_the_death_of_the_server(live_bus):
    async with live_bus.connect("a", "1") as sender, live_bus.connect("b", "1") as other:
        live_bus.kill()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender.send, other.address, "ping", {"n": "1"})
            await anyio.sleep(0.3)
            await anyio.to_thread.run_sync(live_bus.restart)
            with anyio.fail_after(15):
                async for item in other.incoming():
                    if not isinstance(item, Presence):
                        break

    assert item.text("n") == "1"


async def test_a_peers_end_is_seen_after_the_death_of_the_server(live_bus):
    async with live_bus.connect("a", "1") as watcher:
        async with live_bus.connect("b", "1") as other:
            await other.announce("a@grid.test")
            live_bus.kill()
            await anyio.to_thread.run_sync(live_bus.restart)
            await other.send(watcher.address, "ping", {}, deadline_s=15)
        with anyio.fail_after(15):
            async for item in watcher.incoming():
                if item == Presence(other.address, is_available=False):
                    break


async def test_a_wrong_password_is_refused_at_once(live_bus):
    renew_account(live_bus.server, "a")

    with anyio.fail_after(5), pytest.raises(DeniedError, match="a@grid.test"):
        async with live_bus.connect("a", "1", password="wrong"):
            pass


async def test_a_renewed_account_has_another_password(live_bus):
    old = renew_account(live_bus.server, "a").read_text()
    new = renew_account(live_bus.server, "a").read_text()

    async with live_bus.connect("a", "1", password=new):
        pass
    with pytest.raises(DeniedError):
        async with live_bus.connect("a", "1", password=old):
            pass


async def test_no_password_can_be_read_by_others_or_back_from_what_the_server_keeps(live_bus):
    password = renew_account(live_bus.server, "a").read_text()

    files = [path for path in live_bus.server.folder.rglob("*") if path.is_file()]
    holders = [path for path in files if password.encode() in path.read_bytes()]
    assert [path.name for path in holders] == ["a.password"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(live_bus.server.folder.stat().st_mode) == 0o700
    assert password not in repr(Account("h", 1, "a@b/c", password))


@pytest.mark.parametrize("behaviour", ["nobody listens", "silence", "rubbish", "a slow drip"])
async def test_a_bus_that_is_none_ends_in_an_error_in_time(behaviour):
    account, listening = None, socket.create_server(("127.0.0.1", 0))
    with listening:
        port = listening.getsockname()[1]
        if behaviour == "nobody listens":
            listening.close()
        account = Account("127.0.0.1", port, "a@grid.test/1", "x")

        async def misbehave():
            listening.setblocking(False)
            loop = asyncio.get_running_loop()
            while True:
                connection, _ = await loop.sock_accept(listening)
                with connection:
                    try:
                        if behaviour == "rubbish":
                            await loop.sock_sendall(connection, b"\0<<<>>>" * 100)
                        while behaviour == "a slow drip":
                            await loop.sock_sendall(connection, b" ")
                            await anyio.sleep(0.05)
                        await anyio.sleep(5)
                    except OSError:
                        pass

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                if behaviour != "nobody listens":
                    tasks.start_soon(misbehave)
                with pytest.raises(BusError, match=str(port)):
                    async with connect_xmpp(account, deadline_s=0.7):
                        pass
                tasks.cancel_scope.cancel()


async def test_a_taken_port_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(AddressInUseError, match=str(port)):
            start_prosody(BusServer(tmp_path / "bus", port=port))


def test_a_server_that_cannot_start_says_why(tmp_path, monkeypatch):
    broken = tmp_path / "bin/prosody"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho cannot find my wits\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=":")

    with pytest.raises(BusError, match="status 3.*cannot find my wits"):
        start_prosody(BusServer(tmp_path / "bus", port=1 + 20_000))


@pytest.mark.parametrize("name", ["", "../x", "A", "a@b", "a b", "x" * 64, 'a"'])
def test_a_name_that_is_no_account_is_refused(tmp_path, name):
    with pytest.raises(InvalidInputError):
        renew_account(BusServer(tmp_path), name)


def test_a_folder_with_a_strange_name_stays_text_in_the_configuration(tmp_path):
    text = format_config(BusServer(tmp_path / 'a"; os.exit() --\n'), as_root=False)

    assert '"; os.exit' not in text
    assert "run_as_root = false" in text
