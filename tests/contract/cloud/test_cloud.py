"""What every cloud promises: the twin, our own site, and an EC2 of somebody else's making (moto)."""

import socket
import subprocess
import sys
import time

import anyio
import pytest

from cernvm.cloud.ec2 import Ec2Cloud
from cernvm.cloud.memory import MemoryCloud
from cernvm.cloud.port import RUNNING, TERMINATED, Image, RunRequest
from cernvm.cloud.region import Region, find_region
from cernvm.core.errors import ExistsError, InvalidInputError, NotFoundError
from cernvm.core.home import Home
from system.site.served import served_site

pytestmark = pytest.mark.anyio

IMAGE_IDS = {}  # by region
IMAGE = Image("ami-00000003", "cernvm", "here/cernvm", "available", True, "x86_64")


@pytest.fixture(scope="module")
def site_region(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("cloud"))
    with served_site(home):
        yield find_region("local", home=home, environment={})


@pytest.fixture(scope="module")
def moto_region(tmp_path_factory):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=log,
        stderr=log,
    )
    try:
        _wait_for_port(port)
        yield Region("moto", "AKIA", "secret", f"http://127.0.0.1:{port}", "us-east-1")
    finally:
        server.terminate()
        server.wait(5)
        log.close()


@pytest.fixture(scope="module", autouse=True)
def servers(site_region, moto_region):
    """Both up before the first test, which is not to be blamed for their processes."""


@pytest.fixture(params=["memory", "site", "moto"])
def cloud(request):
    if request.param == "memory":
        return MemoryCloud((IMAGE,))
    return Ec2Cloud(request.getfixturevalue(f"{request.param}_region"))


async def test_what_is_started_is_pending_in_one_reservation(cloud):
    started = await _run(cloud, min_count=2, max_count=2)

    assert [instance.state for instance in started] == ["pending"] * 2
    assert len({instance.reservation_id for instance in started}) == 1
    assert [instance.launch_index for instance in started] == [0, 1]
    await _end(cloud, started)


async def test_it_runs_after_a_while(cloud):
    (started,) = await _run(cloud)

    await _reach(cloud, started, RUNNING)

    assert (await _one(cloud, started)).address
    await _end(cloud, [started])


async def test_all_are_listed_without_ids(cloud):
    started = await _run(cloud, min_count=2, max_count=2)

    listed = {instance.instance_id for instance in await cloud.instances()}

    assert {instance.instance_id for instance in started} <= listed
    await _end(cloud, started)


async def test_the_wish_is_kept(cloud):
    (started,) = await _run(cloud, instance_type="m1.large", key_name="ami")

    shown = await _one(cloud, started)

    assert (shown.instance_type, shown.key_name) == ("m1.large", "ami")
    await _end(cloud, [started])


async def test_the_same_client_token_starts_nothing_twice(cloud, request):
    if "moto" in request.node.name:
        pytest.skip("moto does not heed tokens")
    token = f"token-{time.time_ns()}"
    first = await _run(cloud, client_token=token)

    again = await _run(cloud, client_token=token)

    assert [i.instance_id for i in again] == [i.instance_id for i in first]
    await _end(cloud, first)


async def test_a_client_token_belongs_to_one_request(cloud, request):
    if "moto" in request.node.name:
        pytest.skip("moto does not heed tokens")
    token = f"token-{time.time_ns()}"
    first = await _run(cloud, client_token=token)

    with pytest.raises(ExistsError):
        await _run(cloud, client_token=token, instance_type="m1.large")
    await _end(cloud, first)


async def test_ended_ones_are_terminated_and_ending_them_again_is_no_error(cloud):
    (started,) = await _run(cloud)

    await cloud.terminate([started.instance_id])

    await _reach(cloud, started, TERMINATED)
    ((name, state),) = await cloud.terminate([started.instance_id])
    assert name == started.instance_id
    assert state in ("shutting-down", TERMINATED)


async def test_ending_nothing_ends_nothing(cloud):
    assert await cloud.terminate([]) == []


@pytest.mark.parametrize("verb", ["instances", "terminate"])
async def test_an_unknown_instance_is_named(cloud, verb):
    with pytest.raises(NotFoundError, match="i-0123456789abcdef0"):
        await getattr(cloud, verb)(["i-0123456789abcdef0"])


async def test_an_unknown_image_is_named(cloud):
    with pytest.raises(NotFoundError, match="ami-0123456789abcdef0"):
        await cloud.images(["ami-0123456789abcdef0"])


async def test_an_unknown_image_starts_nothing(cloud, request):
    if "moto" in request.node.name:
        pytest.skip("moto starts whatever it is told to")
    with pytest.raises(NotFoundError, match="ami-0123456789abcdef0"):
        await cloud.run(RunRequest("ami-0123456789abcdef0"))


async def test_a_console_is_bytes(cloud):
    (started,) = await _run(cloud)

    assert isinstance(await cloud.console(started.instance_id), bytes)
    await _end(cloud, [started])


async def test_images_have_ids_and_names(cloud):
    images = await cloud.images()

    assert images
    assert all(image.image_id.startswith("ami-") for image in images)
    (again,) = await cloud.images([images[0].image_id])
    assert again == images[0]


@pytest.mark.parametrize(("least", "most"), [(0, 1), (2, 1), (-1, -1)])
def test_a_wish_without_sense_cannot_be_made(least, most):
    with pytest.raises(InvalidInputError):
        RunRequest("ami-00000003", least, most)


async def _run(cloud, **wish):
    kind = getattr(cloud, "region", None)
    if kind not in IMAGE_IDS:  # moto takes a second to list Amazon's
        IMAGE_IDS[kind] = (await cloud.images())[0].image_id
    return await cloud.run(RunRequest(IMAGE_IDS[kind], **wish))


async def _one(cloud, instance):
    (shown,) = await cloud.instances([instance.instance_id])
    return shown


async def _reach(cloud, instance, state):
    for _ in range(100):
        if (await _one(cloud, instance)).state == state:
            return
        await anyio.sleep(0.1)
    raise AssertionError(f"{instance.instance_id} did not become {state}")


async def _end(cloud, instances):
    await cloud.terminate([instance.instance_id for instance in instances])


def _wait_for_port(port):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("moto does not listen")
