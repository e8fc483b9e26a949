"""What is found out about a chain: by PAC scripts, names, the Geo-API; and mirrors probed and steered by hand."""

import resource
import socket
import subprocess
import sys
import threading
import time

import pytest

from cernvm.core.clock import Deadline
from cernvm.core.errors import FormatError, HostError, InvalidInputError, PrerequisiteError
from cernvm.net import (
    Chain,
    ChainFetcher,
    HttpExchange,
    NetSettings,
    Timing,
    fetch,
    open_external_fetcher,
    open_fetcher,
    url_path,
)
from cernvm.net.chain import make_chain
from cernvm.net.discovery import Discovery
from cernvm.net.expansion import expand_proxies
from cernvm.net.pac import run_script, to_proxies
from cernvm.net.resolve import Resolver
from cernvm.net.roster import FoundRoster

BODY = b"content"


def get(fetcher, path="x", seconds=8.0):
    deadline = Deadline.after(seconds)
    return fetch(fetcher, path, limit_bytes=100_000, deadline=deadline, accept=bytes)


@pytest.fixture
def opened():
    made = []

    def make(hosts, **more):
        made.append(open_fetcher(NetSettings(hosts, backoff_first_s=0.1, **more), "a.b"))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def host(mirror):
    one = mirror()
    one.documents["x"] = BODY
    return one


def script(body):
    return f"function FindProxyForURL(url, host) {{ {body} }}".encode()


def run(body, seconds=8.0):
    return run_script(script(body), "http://s1.cern.ch/cvmfs/a", Deadline.after(seconds))


def test_a_script_names_the_proxy(mirror, host, opened):
    proxy, pac = mirror(), mirror()
    proxy.documents[f"{host.url}/x"] = b"by the proxy"
    pac.documents["wpad.dat"] = script(
        f"return isInNet(host, '127.0.0.0', '255.0.0.0') ? 'PROXY 127.0.0.1:{proxy.port}' : 'DIRECT';"
    )

    fetcher = opened(host.url, proxies="auto", pac_urls=f"{pac.url}/gone;{pac.url}/wpad.dat")

    assert get(fetcher) == b"by the proxy"
    assert fetcher.proxy == proxy.url


def test_an_order_set_by_hand_stands_against_the_geo_api_and_keeps_proxies_by_name(mirror, opened):
    first, second = mirror(), mirror()
    for one in (first, second):
        one.documents["api/v1.0/geo/client/127.0.0.1,127.0.0.1"] = b"2,1\n"
        one.documents["x"] = BODY
    fetcher = opened(f"{first.url};{second.url}", use_geo=True, geo_name="client")
    get(fetcher)

    fetcher.course.order_hosts([first.url, second.url])
    get(fetcher)

    assert fetcher.hosts == (first.url, second.url)


def test_a_script_is_not_run_again_for_each_look_at_names(mirror, host, opened):
    pac = mirror()
    pac.documents["wpad.dat"] = script("return 'DIRECT';")
    fetcher = opened(
        host.url, proxies="auto", pac_urls=f"{pac.url}/wpad.dat", dns_ttl_s=0.01, dns_roaming=False
    )
    for _ in range(5):
        get(fetcher)
        time.sleep(0.05)

    assert len(pac.requests) == 1


def test_proxies_may_be_left_to_a_script_by_hand(mirror, host, opened):
    proxy, pac = mirror(), mirror()
    proxy.documents[f"{host.url}/x"] = b"by the proxy"
    pac.documents["wpad.dat"] = script(f"return 'PROXY 127.0.0.1:{proxy.port}';")
    fetcher = opened(host.url, pac_urls=f"{pac.url}/wpad.dat")
    assert get(fetcher) == BODY

    fetcher.course.set_proxies("auto")

    assert get(fetcher) == b"by the proxy"


def test_when_no_script_can_be_had_the_error_says_so(mirror, host, opened):
    fetcher = opened(host.url, proxies="auto", pac_urls=f"{mirror().url}/gone")

    with pytest.raises(HostError, match="PAC script"):
        get(fetcher)


def test_a_script_may_choose_by_name():
    body = "return shExpMatch(host, '*.cern.ch') ? 'PROXY in:3128; PROXY b:1; DIRECT' : 'DIRECT';"

    assert run(body) == "http://in:3128;http://b:1;DIRECT"


@pytest.mark.parametrize(
    "body",
    [
        "while (true) {}",
        "var a = 'x'; while (true) { a += a; }",
        "function f() { f(); } f();",
        "throw 1;",
        "return 'SOCKS a:1';",
        "return 7;",
        "syntax error",
        "return 'PROXY a b; PROXY http://c/';",
    ],
)
def test_a_hostile_script_costs_a_bounded_time_and_names_nothing(body):
    started = time.monotonic()

    with pytest.raises(FormatError):
        run(body, seconds=1.5)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("answer", "proxies"),
    [
        ("DIRECT", "DIRECT"),
        (" PROXY a:1 ;; direct ", "http://a:1;DIRECT"),
        ("PROXY a:1; PROXY a:1", "http://a:1"),
        ("SOCKS5 s:1; HTTP h:2", "http://h:2"),
    ],
)
def test_what_a_script_says_becomes_groups_in_its_order(answer, proxies):
    assert to_proxies(answer) == proxies


def test_a_proxys_name_becomes_its_addresses():
    chain = make_chain(("http://a",), "http://localhost:3128|http://127.0.0.9:1;DIRECT")

    expanded = expand_proxies(chain, Resolver(prefer_ip=4), Deadline.after(5))

    assert expanded.proxy_groups == (
        ("http://127.0.0.1:3128", "http://127.0.0.9:1"),
        ("DIRECT",),
    )


def test_a_proxy_by_name_is_used_and_one_that_does_not_exist_is_passed_by(mirror, host, opened):
    proxy = mirror()
    proxy.documents[f"{host.url}/x"] = b"by the proxy"
    gone = f"http://{'x' * 70}:1"  # too long for a name, so nobody is asked

    fetcher = opened(host.url, proxies=f"{gone};http://localhost:{proxy.port}", prefer_ip=4)

    assert get(fetcher) == b"by the proxy"
    assert fetcher.proxy == f"http://127.0.0.1:{proxy.port}"


def test_addresses_are_forgotten_when_the_machine_comes_to_another_network(tmp_path):
    network = tmp_path / "resolv.conf"
    network.write_text("nameserver 1\n")
    resolver = Resolver(is_roaming=True, resolver_file=str(network))
    resolver.addresses("localhost", 1, Deadline.after(5))
    before = resolver.network

    network.unlink()
    network.write_text("nameserver 22\n")

    assert resolver.network != before


@pytest.mark.parametrize("url", ["http://localhost:{port}", "http://127.0.0.1:{port}"])
def test_in_another_network_the_script_is_asked_again_and_once_whoever_resolves_first(
    tmp_path, mirror, host, url
):
    network = tmp_path / "resolv.conf"
    network.write_text("nameserver 1\n")
    pac = mirror()
    pac.documents["wpad.dat"] = script("return 'DIRECT';")
    resolver = Resolver(is_roaming=True, resolver_file=str(network))
    exchange = HttpExchange(resolver=resolver)
    chain = make_chain((url.format(port=host.port),), "auto")
    discovery = Discovery(exchange, resolver, pac_urls=f"{pac.url}/wpad.dat")
    fetcher = ChainFetcher(
        FoundRoster(chain, discovery.find_out, is_due=discovery.is_due), exchange
    )
    get(fetcher)
    network.unlink()
    network.write_text("nameserver 22\n")
    resolver.addresses("localhost", 1, Deadline.after(5))

    for _ in range(5):
        get(fetcher)
        time.sleep(0.1)

    assert len(pac.requests) == 2
    fetcher.close()


def test_a_search_that_breaks_is_told_and_made_again(monkeypatch):
    searches, crashed = [], threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: crashed.set())

    def find_out(chain, deadline):
        searches.append(chain)
        if len(searches) == 1:
            raise OSError("no descriptor is free")
        return chain

    roster = FoundRoster(Chain(("http://a",)), find_out, is_due=lambda _: False)

    with pytest.raises(OSError, match="no descriptor"):
        roster.chain(Deadline.after(5))
    assert crashed.wait(5), "a defect is shown"
    assert roster.chain(Deadline.after(5)).hosts == ("http://a",)


def test_a_script_that_cannot_be_started_is_one_that_failed():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(PrerequisiteError, match="Too many open files"):
            run("return 'DIRECT';")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_script_cannot_answer_at_length():
    command = [sys.executable, "-I", "-m", "cernvm.net.pac_script", "http://a/", "a"]
    huge = script("var s = 'PROXY a:1;'; while (s.length < 10000000) s += s; return s;")

    done = subprocess.run(command, input=huge, capture_output=True, timeout=30, check=True)

    assert len(done.stdout) <= 4096


def test_a_search_for_proxies_is_made_once_for_all_who_wait_and_renewed_beside_them():
    searches = []
    go_on = threading.Event()

    def find_out(chain, deadline):
        searches.append(chain)
        if len(searches) > 1:
            go_on.wait(5)
        return Chain((f"http://found{len(searches)}",))

    roster = FoundRoster(Chain(("http://a",)), find_out, is_due=lambda age_s: age_s > 0.1)
    assert roster.chain(Deadline.after(5)).hosts == ("http://found1",)
    time.sleep(0.15)

    assert roster.chain(Deadline.after(5)).hosts == ("http://found1",)
    go_on.set()
    end = time.monotonic() + 5
    while roster.known.hosts != ("http://found2",) and time.monotonic() < end:
        time.sleep(0.01)
    assert roster.known.hosts == ("http://found2",)


def test_mirrors_are_put_in_the_order_that_the_geo_api_gives(mirror, opened):
    far, near = mirror(), mirror()
    for one in (far, near):
        one.documents["api/v1.0/geo/client/127.0.0.1,127.0.0.1"] = b"2,1\n"
        one.documents["x"] = BODY

    fetcher = opened(f"{far.url};{near.url}", use_geo=True, geo_name="client")

    assert get(fetcher) == BODY
    assert fetcher.hosts == (near.url, far.url)


@pytest.mark.parametrize("lie", [b"2,2\n", b"1\n", b"x" * 10_000, None])
def test_a_geo_api_that_lies_or_fails_changes_nothing(mirror, opened, lie):
    first, second = mirror(), mirror()
    for one in (first, second):
        one.documents["api/v1.0/geo/client/127.0.0.1,127.0.0.1"] = lie
        one.documents["x"] = BODY

    fetcher = opened(f"{first.url};{second.url}", use_geo=True, geo_name="client")

    assert get(fetcher) == BODY
    assert fetcher.hosts == (first.url, second.url)


def test_no_more_mirrors_than_allowed_are_used(host, mirror, opened):
    fetcher = opened(f"{host.url};{mirror().url}", max_hosts=1)

    assert fetcher.hosts == (host.url,)


def test_sharding_sends_each_object_to_the_proxy_that_keeps_it(mirror, host, opened):
    proxies = [mirror() for _ in range(3)]
    paths = [f"data/{number:02x}/{number * 7919 % 0xFFFFFF:06x}" for number in range(0, 256, 4)]
    for proxy in proxies:
        for path in paths:
            proxy.documents[f"{host.url}/{path}"] = BODY

    fetcher = opened(host.url, proxies="|".join(p.url for p in proxies), shard_proxies=True)
    for path in paths * 2:
        get(fetcher, path)

    asked = [{path for path, _ in proxy.requests} for proxy in proxies]
    assert all(asked)
    assert sum(map(len, asked)) == len(paths)


def test_mirrors_are_probed_and_used_in_the_order_of_their_answers(mirror, host, opened):
    gone = mirror()
    gone.close()
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    fetcher = opened(f"{url};{gone.url};{host.url}")

    probes = fetcher.probe_hosts("x", Deadline.after(1))
    silent.close()

    assert [probe.host for probe in probes] == [host.url, url, gone.url]
    assert probes[0].rtt_s < 1
    assert [bool(probe.error) for probe in probes] == [False, True, True]
    assert fetcher.hosts[0] == host.url


def test_a_host_is_switched_by_hand(host, mirror, opened):
    other = mirror()
    fetcher = opened(f"{host.url};{other.url}")

    assert fetcher.course.switch_host() == other.url
    assert fetcher.hosts == (other.url, host.url)
    assert fetcher.course.switch_host() == host.url


def test_proxies_are_set_and_switched_by_hand(mirror, host, opened):
    proxy = mirror()
    proxy.documents[f"{host.url}/x"] = b"by the proxy"
    fetcher = opened(host.url)

    fetcher.course.set_proxies(f"{proxy.url};DIRECT")

    assert get(fetcher) == b"by the proxy"
    assert fetcher.course.switch_proxy_group() == "DIRECT"
    assert get(fetcher) == BODY
    with pytest.raises(InvalidInputError):
        fetcher.course.set_proxies("no proxy")


def test_hosts_are_set_by_hand(host, mirror, opened):
    gone = mirror()
    fetcher = opened(gone.url)

    fetcher.course.set_hosts(host.url)

    assert get(fetcher) == BODY


def test_a_dead_proxy_is_asked_by_one_request_only(mirror, host, opened):
    dead = mirror()
    dead.close()
    fetcher = opened(host.url, proxies=f"{dead.url};DIRECT")

    assert [get(fetcher) for _ in range(3)] == [BODY] * 3
    assert fetcher.traffic.failures == 1
    assert fetcher.course.turns.proxy_failovers == 1


def test_external_data_has_a_chain_of_its_own(mirror):
    elsewhere = mirror()
    path = url_path(b"/store/a file\xff.root")
    elsewhere.documents[path] = bytes(range(200))
    settings = NetSettings("http://127.0.0.1:9", external_hosts=elsewhere.url)

    fetcher = open_external_fetcher(settings, "a.b")
    got = fetch(fetcher, path, limit_bytes=200, deadline=Deadline.after(5), accept=bytes)
    fetcher.close()

    assert got == bytes(range(200))
    assert open_external_fetcher(NetSettings("http://127.0.0.1:9"), "a.b") is None


@pytest.fixture
def deaf():
    """Takes no more connections, and says nothing of it; gives its port on 127.0.0.2."""
    listener = socket.create_server(("127.0.0.2", 0), backlog=0)
    waiting = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
        waiting.append(one)
    yield listener.getsockname()[1]
    for one in (*waiting, listener):
        one.close()


def test_several_addresses_of_one_name_share_the_time_to_connect(deaf):
    class Names(Resolver):
        def addresses(self, host, port, deadline):
            return [(socket.AF_INET, (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    listener = socket.create_server(("127.0.0.1", deaf))
    accepted = []

    def serve():
        connection, _ = listener.accept()
        accepted.append(connection)
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontent")

    thread = threading.Thread(target=serve)
    thread.start()
    exchange = HttpExchange(resolver=Names(), timing=Timing(connect_s=1.0))
    fetcher = ChainFetcher(Chain((f"http://two-addresses:{deaf}",)), exchange)

    assert get(fetcher) == BODY
    thread.join(5)
    exchange.close()
    for connection in (*accepted, listener):
        connection.close()
