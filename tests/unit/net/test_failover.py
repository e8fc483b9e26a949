import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.net.chain import DIRECT, Chain
from cernvm.net.failover import (
    HOST_RESET_AFTER_S,
    PROXY_RESET_AFTER_S,
    Outcome,
    Standing,
    outcome_of,
)

HOSTS = Chain(("http://a", "http://b", "http://c"))
PROXIES = Chain(("http://a", "http://b"), (("http://p", "http://q"), (DIRECT,)))


def walk(chain, *outcomes, standing=None):
    journey = (standing or Standing()).journey(chain, 0.0)
    routes = [journey.route]
    for outcome in outcomes:
        journey = journey.after(outcome)
        if journey is None:
            return [*routes, None]
        routes.append(journey.route)
    return routes


def hosts(routes):
    return [route and route.host for route in routes]


def proxies(routes):
    return [route and route.proxy for route in routes]


def test_a_bad_answer_moves_on_to_the_next_host():
    assert hosts(walk(HOSTS, Outcome.HOST, Outcome.HOST)) == ["http://a", "http://b", "http://c"]


def test_each_host_is_tried_once():
    assert walk(HOSTS, *[Outcome.HOST] * 3)[-1] is None


def test_a_broken_connection_is_tried_once_more_on_the_same_route():
    assert hosts(walk(HOSTS, Outcome.BROKEN, Outcome.BROKEN)) == [
        "http://a",
        "http://a",
        "http://b",
    ]


def test_a_silent_host_is_not_asked_twice():
    assert hosts(walk(HOSTS, Outcome.STALLED)) == ["http://a", "http://b"]


def test_refused_content_is_asked_for_past_the_caches_first():
    journey = Standing().journey(HOSTS, 0.0)

    again = journey.after(Outcome.REFUSED)
    other = again.after(Outcome.REFUSED)

    assert (again.route, again.no_cache) == (journey.route, True)
    assert (other.route.host, other.no_cache) == ("http://b", False)


def test_a_failing_proxy_burns_and_its_group_comes_before_the_next():
    routes = walk(PROXIES, Outcome.PROXY, Outcome.PROXY)

    assert proxies(routes) == ["http://p", "http://q", DIRECT]
    assert set(hosts(routes)) == {"http://a"}


def test_when_all_proxies_have_failed_for_a_host_the_next_host_has_all_of_them_again():
    routes = walk(PROXIES, Outcome.PROXY, Outcome.PROXY, Outcome.STALLED)

    assert hosts(routes)[-1] == "http://b"
    assert proxies(routes)[-1] == "http://p"


def test_what_worked_is_where_the_next_request_begins():
    journey = Standing().journey(HOSTS, 0.0).after(Outcome.HOST)
    standing = Standing().arrived(journey, 5.0)

    assert standing.journey(HOSTS, 6.0).route.host == "http://b"


def test_the_first_host_is_tried_again_after_a_while():
    journey = Standing().journey(HOSTS, 0.0).after(Outcome.HOST)
    standing = Standing().arrived(journey, 5.0)

    assert standing.journey(HOSTS, 4.0 + HOST_RESET_AFTER_S).route.host == "http://b"
    assert standing.journey(HOSTS, 5.0 + HOST_RESET_AFTER_S).route.host == "http://a"


def test_the_first_proxy_is_tried_again_after_a_while():
    journey = Standing().journey(PROXIES, 0.0).after(Outcome.PROXY)
    standing = Standing().arrived(journey, 5.0)

    assert standing.journey(PROXIES, 6.0).route.proxy == "http://q"
    assert standing.journey(PROXIES, 5.0 + PROXY_RESET_AFTER_S).route.proxy == "http://p"


def test_from_a_later_host_the_journey_wraps_around():
    assert hosts(walk(HOSTS, Outcome.HOST, Outcome.HOST, standing=Standing(host=2))) == [
        "http://c",
        "http://a",
        "http://b",
    ]


@given(st.lists(st.sampled_from(Outcome), max_size=200), st.sampled_from([HOSTS, PROXIES]))
def test_every_journey_ends(outcomes, chain):
    journey = Standing().journey(chain, 0.0)
    steps = 0
    for outcome in outcomes:
        journey = journey.after(outcome)
        if journey is None:
            break
        steps += 1
    members = sum(map(len, chain.proxy_groups))
    assert steps <= len(chain.hosts) * (2 * members + 4)


@pytest.mark.parametrize(
    ("status", "headers", "via_proxy", "expected"),
    [
        (200, {}, False, None),
        (404, {}, True, Outcome.HOST),
        (502, {}, True, Outcome.HOST),
        (502, {"x-squid-error": "ERR_CONNECT_FAIL 111"}, True, Outcome.PROXY),
        (502, {"proxy-status": "p; error=dns_error"}, True, Outcome.PROXY),
        (302, {}, False, Outcome.HOST),
        (429, {}, False, Outcome.BROKEN),
        (403, {}, True, Outcome.PROXY),
        (403, {}, False, Outcome.HOST),
        (206, {}, False, Outcome.HOST),
    ],
)
def test_a_status_blames_host_or_proxy(status, headers, via_proxy, expected):
    assert outcome_of(status, headers, via_proxy=via_proxy) is expected
