"""The metadata service on a real socket: a caller is known by the address it calls from."""

import http.client
import socket
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from ipaddress import IPv4Network

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from cernvm.core.clock import FakeClock
from cernvm.net.listening import open_listener
from cernvm.site import listener
from cernvm.site.instance import Image, State
from cernvm.site.listener import serve_application
from cernvm.site.metadata import TOKEN_HEADER, TTL_HEADER, Tokens, create_metadata
from cernvm.site.query import RunInstances
from cernvm.site.state import Limits, open_state

IMAGE = Image("cernvm", "os.cernvm.test")
LIMITS = Limits(10, IPv4Network("127.77.0.0/24"))
ONE, TWO, NOBODY = "127.77.0.2", "127.77.0.3", "127.77.0.200"


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Two instances, of which only the first has user-data."""
    opened = open_state(tmp_path_factory.mktemp("site"))
    opened.offer_images([IMAGE])
    opened.ensure_owner("predrag")
    for user_data in (b"[cernvm]\nusers = one:one:\n", b""):
        reserve(opened, user_data)
    yield opened
    opened.close()


def reserve(state, user_data=b""):
    request = RunInstances(IMAGE.image_id, 1, 1, user_data=user_data, groups=("web", "db"))
    return state.reserve("predrag", request, LIMITS)[0]


@pytest.fixture(scope="module")
def clock():
    return FakeClock(datetime(2026, 11, 21, tzinfo=UTC))


@pytest.fixture(scope="module")
def ask(state, clock):
    with served(create_metadata(state.instance_at, tokens=Tokens(clock))) as port:
        yield asker(port)


@contextmanager
def served(app, **limits):
    """The application on a free port of every loopback address."""
    listening = open_listener("0.0.0.0", 0)

    async def serve(*, task_status):
        stop = anyio.Event()
        task_status.started(stop)
        await serve_application(app, listening, stop, **limits)

    with start_blocking_portal() as portal:
        finished, stop = portal.start_task(serve)
        yield listening.getsockname()[1]
        portal.call(stop.set)
        finished.result(10)


def asker(port):
    def ask(path, *, source=ONE, method="GET", **headers):
        connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=5, source_address=(source, 0)
        )
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=names)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    return ask


def token(ask, *, source=ONE, ttl="60"):
    status, body = ask("/latest/api/token", method="PUT", source=source, **{TTL_HEADER: ttl})
    assert status == 200
    return body.decode()


def test_each_caller_is_told_about_itself(ask, state):
    ids = {str(each.address): each.instance_id for each in state.instances(live=True)}

    for source in (ONE, TWO):
        assert ask("/latest/meta-data/instance-id", source=source) == (200, ids[source].encode())


def test_an_address_that_nobody_holds_learns_nothing(ask):
    for path in ("/", "/latest", "/latest/meta-data/instance-id", "/latest/user-data"):
        assert ask(path, source=NOBODY)[0] == 404


def test_user_data_arrives_as_it_was_given(ask):
    assert ask("/latest/user-data") == (200, b"[cernvm]\nusers = one:one:\n")
    assert ask("/latest/user-data", source=TWO)[0] == 404


@pytest.mark.parametrize("version", ["latest", "2007-12-15", "2009-04-04", "2016-04-19", "1.0"])
def test_every_version_that_interpreters_ask_for_is_there(ask, version):
    status, body = ask(f"/{version}/meta-data/")

    assert status == 200
    assert set(body.decode().split("\n")) >= {
        "ami-id", "ami-launch-index", "ami-manifest-path", "instance-id", "instance-type",
        "local-hostname", "local-ipv4", "public-hostname", "public-ipv4", "reservation-id",
        "security-groups",
    }  # fmt: skip


def test_folders_list_what_is_in_them(ask):
    assert ask("/latest")[1] == b"meta-data/\nuser-data"
    assert b"latest/" in ask("/")[1]


def test_facts_are_those_of_the_instance(ask, state):
    one = state.instances()[0]

    facts = {name: ask(f"/latest/meta-data/{name}")[1].decode() for name in
             ("ami-id", "local-ipv4", "local-hostname", "security-groups", "reservation-id")}  # fmt: skip

    assert facts == {
        "ami-id": IMAGE.image_id,
        "local-ipv4": ONE,
        "local-hostname": "ip-127-77-0-2",
        "security-groups": "web\ndb",
        "reservation-id": one.reservation_id,
    }


@pytest.mark.parametrize(
    "path", ["/latest/meta-data/no-such", "/2099-01-01/", "/latest/meta-data/instance-id/x",
             "/latest/../../etc/passwd", "/latest/%2e%2e/site.db"],
)  # fmt: skip
def test_what_does_not_exist_is_not_found(ask, path):
    assert ask(path)[0] == 404


def test_a_token_opens_its_instances_data(ask):
    mine = token(ask)

    assert ask("/latest/meta-data/local-ipv4", **{TOKEN_HEADER: mine}) == (200, ONE.encode())


def test_a_token_opens_nothing_for_another_instance(ask):
    stolen = token(ask)

    assert ask("/latest/user-data", source=TWO, **{TOKEN_HEADER: stolen})[0] == 401


def test_a_token_expires(ask, clock):
    mine = token(ask, ttl="60")
    clock.advance(61)

    assert ask("/latest/user-data", **{TOKEN_HEADER: mine})[0] == 401


@pytest.mark.parametrize("forged", ["", "x", "!!!!", "A" * 64, "é"])
def test_a_forged_token_opens_nothing(ask, forged):
    assert ask("/latest/user-data", **{TOKEN_HEADER: forged.encode("latin-1")})[0] == 401


@pytest.mark.parametrize("ttl", ["", "0", "-1", "21601", "1e3", "9" * 30, "٣"])
def test_a_token_needs_a_sensible_lifetime(ask, ttl):
    headers = {TTL_HEADER: ttl.encode("utf-8")}

    assert ask("/latest/api/token", method="PUT", **headers)[0] == 400


def test_a_forwarded_request_gets_no_token(ask):
    headers = {TTL_HEADER: "60", "X-Forwarded-For": "1.2.3.4"}

    assert ask("/latest/api/token", method="PUT", **headers)[0] == 403


def test_where_tokens_are_required_a_plain_request_is_refused(state):
    with served(create_metadata(state.instance_at, require_token=True)) as port:
        ask = asker(port)
        assert ask("/latest/user-data")[0] == 401
        assert ask("/latest/user-data", **{TOKEN_HEADER: token(ask)})[0] == 200


def test_an_instance_that_ended_learns_nothing_more(ask, state):
    third = reserve(state, b"secret")
    source = str(third.address)
    before = ask("/latest/user-data", source=source)
    state.move(third.instance_id, State.TERMINATED)

    assert before == (200, b"secret")
    assert ask("/latest/user-data", source=source)[0] == 404


def test_only_reading_is_possible(ask):
    for method in ("POST", "DELETE", "PATCH"):
        assert ask("/latest/user-data", method=method)[0] == 405


def test_it_answers_quickly(ask):
    began = time.monotonic()
    for _ in range(50):
        ask("/latest/meta-data/instance-id")

    assert time.monotonic() - began < 5


def test_an_instance_that_holds_connections_keeps_nobody_else_out(state):
    with served(create_metadata(state.instance_at), per_client=4) as port, ExitStack() as held:
        for _ in range(300):
            place = socket.create_connection(("127.0.0.1", port), 5, source_address=(TWO, 0))
            held.enter_context(place)
            with suppress(ConnectionError):  # dropped already
                place.sendall(b"GET /la")

        assert asker(port)("/latest/meta-data/local-ipv4")[:2] == (200, ONE.encode())


@pytest.mark.parametrize("said", [b"", b"GET /latest/ HTTP/1.1\r\nHost: "])
def test_a_head_that_never_ends_is_not_waited_for(state, monkeypatch, said):
    monkeypatch.setattr(listener, "HEAD_DEADLINE_S", 0.3)
    with served(create_metadata(state.instance_at)) as port:
        place = socket.create_connection(("127.0.0.1", port), 5, source_address=(ONE, 0))
        with place:
            place.sendall(said)
            began = time.monotonic()
            with suppress(ConnectionError):
                assert place.recv(1) == b""
            assert time.monotonic() - began < 3


def test_a_connection_serves_several_requests(state, monkeypatch):
    monkeypatch.setattr(listener, "HEAD_DEADLINE_S", 0.3)
    with served(create_metadata(state.instance_at)) as port:
        connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=5, source_address=(ONE, 0)
        )
        for _ in range(3):
            connection.request("GET", "/latest/meta-data/local-ipv4")
            assert connection.getresponse().read() == ONE.encode()
            time.sleep(0.4)
        connection.close()
