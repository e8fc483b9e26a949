"""The Geo-API sorts servers by how near they are to whoever asks."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import ConfigError, InvalidInputError, NotFoundError
from cernvm.fs.replicate.geo.answering import GeoApi, open_geo_api
from cernvm.fs.replicate.geo.atlas import GeoIpPlaces, RoundTrips
from cernvm.fs.replicate.geo.query import (
    MAX_SERVERS,
    GeoQuery,
    Place,
    format_order,
    nearest,
    parse_geo_path,
)
from cernvm.net.chain import make_chain
from cernvm.net.geo import geo_path, reordered

GENEVA, CHICAGO, TOKYO = Place(46.2, 6.1), Place(41.9, -87.6), Place(35.7, 139.7)
PREFIX = "/cvmfs/t.cernvm.test/"


class Map:
    """Where addresses are, said by hand."""

    def __init__(self, **places):
        self._places = {"1.0.0.1": GENEVA, "2.0.0.1": CHICAGO, "3.0.0.1": TOKYO, **places}

    def find(self, address):
        return self._places.get(address)


@pytest.fixture
def api():
    made = GeoApi(Map(), RoundTrips(()))
    yield made
    made.close()


def ask(api, client, servers, *, address="127.0.0.1", forwarded_for=""):
    return api.answer(
        f"{PREFIX}api/v1.0/geo/{client}/{servers}", address=address, forwarded_for=forwarded_for
    )


def test_servers_are_sorted_as_seen_from_who_asks(api):
    servers = "3.0.0.1,2.0.0.1,1.0.0.1"

    assert ask(api, "x", servers, address="1.0.0.1") == b"3,2,1\n"
    assert ask(api, "x", servers, address="3.0.0.1") == b"1,3,2\n"


def test_a_proxys_name_counts_before_the_address(api):
    assert ask(api, "2.0.0.1", "1.0.0.1,2.0.0.1", address="1.0.0.1") == b"2,1\n"


def test_the_last_of_those_who_passed_the_request_on_counts_before_the_connection(api):
    answer = ask(api, "x", "1.0.0.1,2.0.0.1", address="1.0.0.1", forwarded_for="3.0.0.1, 2.0.0.1")

    assert answer == b"2,1\n"


def test_with_fallback_proxies_the_nearest_of_them_counts(api):
    answer = ask(api, "x", "1.0.0.1,2.0.0.1,3.0.0.1,+PXYSEP+,1.0.0.1,3.0.0.1", address="3.0.0.1")

    assert answer == b"3,1,2,6,5,4\n"


def test_servers_that_nobody_knows_come_last_in_their_order(api):
    assert ask(api, "x", "9.9.9.9,2.0.0.1,8.8.8.8", address="1.0.0.1") == b"2,1,3\n"


def test_where_nothing_is_known_the_question_is_refused(api):
    for path in ("9.9.9.9,8.8.8.8", "1.0.0.1"):
        with pytest.raises(InvalidInputError):
            ask(api, "x", path, address="7.7.7.7")


@pytest.mark.parametrize(
    "path",
    ["x/", "x", "x/a b", "x/%00", "x/" + "a" * 256, "x/,", "x/+PXYSEP+,a", "x/" + ",".join("a" * (MAX_SERVERS + 1))],
)  # fmt: skip
def test_a_question_that_is_none_is_refused(api, path):
    try:
        assert api.answer(f"{PREFIX}api/v1.0/geo/{path}", address="1.0.0.1") is None
    except InvalidInputError:
        pass


def test_other_addresses_are_no_questions():
    assert parse_geo_path(f"{PREFIX}.cvmfspublished") is None
    assert parse_geo_path(f"{PREFIX}api/v1.0/other/x/y") is None


@given(
    st.lists(st.sampled_from(["a", "b", "c.test", "1.2.3.4"]), min_size=1, max_size=5, unique=True),
    st.lists(st.sampled_from(["p", "q"]), max_size=2, unique=True),
)
def test_every_answer_is_one_that_our_client_takes(hosts, proxies):
    chain = make_chain(
        tuple(f"http://{host}/cvmfs/t" for host in hosts),
        "http://p0:3128",
        ";".join(f"http://{proxy}:3128" for proxy in proxies),
    )
    query = parse_geo_path(f"{PREFIX}{geo_path(chain, 'me')}")

    assert isinstance(query, GeoQuery)
    order = nearest(query.hosts, lambda host: -ord(host[0]))
    answer = format_order(query, order, nearest(query.proxies, lambda _: None))
    assert sorted(reordered(chain, answer).hosts) == sorted(chain.hosts)


def test_distances_are_those_of_the_globe():
    assert GENEVA.distance(GENEVA) == 0
    assert GENEVA.distance(CHICAGO) == pytest.approx(7066 / 6371, rel=0.01)
    assert Place(0, 0).distance(Place(0, 180)) == pytest.approx(3.14159, rel=1e-4)


def test_without_a_database_round_trips_count():
    with socket.create_server(("127.0.0.1", 0)) as near:
        port = near.getsockname()[1]
        trips = RoundTrips([f"http://127.0.0.1:{port}/cvmfs/x", "http://127.0.0.2:1/cvmfs/x"])
        trips.measure()
        api = GeoApi(None, trips)
        assert ask(api, "x", "127.0.0.2,127.0.0.1") == b"2,1\n"
        api.close()


def test_a_host_that_nobody_named_is_never_connected_to():
    with socket.create_server(("127.0.0.1", 0)) as bait:
        bait.settimeout(0.3)
        api = open_geo_api(None, ())
        with pytest.raises(InvalidInputError):
            ask(api, "127.0.0.1", f"127.0.0.1,127.0.0.1:{bait.getsockname()[1]}")
        with pytest.raises(TimeoutError):
            bait.accept()
        api.close()


def database(places):
    """A MaxMind database of IPv4 addresses, written by the book."""

    def text(value):
        return bytes([2 << 5 | len(value)]) + value.encode()

    def double(value):
        return bytes([3 << 5 | 8]) + struct.pack(">d", value)

    def table(pairs):
        return bytes([7 << 5 | len(pairs)]) + b"".join(text(k) + v for k, v in pairs)

    def number(value, kind, size):
        raw = value.to_bytes(size, "big")
        return (bytes([kind << 5 | size]) if kind < 8 else bytes([size, kind - 7])) + raw

    nodes, data = [[None, None]], b""
    for address, place in places.items():
        bits = int.from_bytes(socket.inet_aton(address), "big")
        offset = len(data)
        point = [("latitude", double(place.latitude)), ("longitude", double(place.longitude))]
        data += table([("location", table(point))])
        node = 0
        for level in range(31, -1, -1):
            side = bits >> level & 1
            if level == 0:
                nodes[node][side] = ("data", offset)
            elif nodes[node][side] is None:
                nodes.append([None, None])
                nodes[node][side] = len(nodes) - 1
                node = len(nodes) - 1
            else:
                node = nodes[node][side]
    count = len(nodes)

    def record(value):
        if value is None:
            return count
        return count + 16 + value[1] if isinstance(value, tuple) else value

    tree = b"".join(record(side).to_bytes(3, "big") for node in nodes for side in node)
    metadata = table(
        [
            ("node_count", number(count, 6, 4)), ("record_size", number(24, 5, 2)),
            ("ip_version", number(4, 5, 2)), ("database_type", text("City")),
            ("languages", bytes([0, 4])), ("binary_format_major_version", number(2, 5, 2)),
            ("binary_format_minor_version", number(0, 5, 2)), ("build_epoch", number(1, 9, 8)),
            ("description", table([])),
        ]
    )  # fmt: skip
    return tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + metadata


def test_places_come_from_a_geoip_database(tmp_path):
    path = tmp_path / "geo.mmdb"
    path.write_bytes(database({"1.0.0.1": GENEVA, "3.0.0.1": TOKYO}))
    api = open_geo_api(path, ())

    assert ask(api, "x", "3.0.0.1,1.0.0.1", address="1.0.0.1") == b"2,1\n"
    api.close()
    places = GeoIpPlaces(path)
    assert places.find("1.0.0.1") == GENEVA
    for nowhere in ("1.0.0.2", "::1", "no address", ""):
        assert places.find(nowhere) is None
    places.close()


def test_a_file_that_is_no_database_is_told_at_once(tmp_path):
    path = tmp_path / "geo.mmdb"
    with pytest.raises(NotFoundError):
        GeoIpPlaces(path)
    path.write_bytes(b"junk" * 1000)
    with pytest.raises(ConfigError):
        GeoIpPlaces(path)
