from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.net.chain import DIRECT, Chain
from cernvm.net.failover import Rules, Standing
from cernvm.net.outcome import Outcome, outcome_of
from cernvm.net.sharding import choose

HOSTS = Chain(("http://a", "http://b", "http://c"))
PROXIES = Chain(("http://a", "http://b"), (("http://p", "http://q"), (DIRECT,)))
ONLY_PROXIES = Chain(("http://a", "http://b"), (("http://p", "http://q"), ("http://r",)))
CHAINS = st.sampled_from([HOSTS, PROXIES, ONLY_PROXIES])
RULES = Rules()
DICE = st.floats(0, 1, exclude_max=True)


def begin(chain, standing=None, **more):
    return (standing or Standing()).journey(chain, RULES, **more)


def walk(chain, *outcomes, standing=None):
    journey = begin(chain, standing)
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


@pytest.mark.parametrize("outcome", [Outcome.BROKEN, Outcome.BUSY])
def test_a_broken_connection_or_a_busy_host_is_tried_once_more_on_the_same_route(outcome):
    assert hosts(walk(HOSTS, outcome, outcome)) == ["http://a", "http://a", "http://b"]


def test_a_silent_host_is_not_asked_twice():
    assert hosts(walk(HOSTS, Outcome.STALLED)) == ["http://a", "http://b"]


def test_nobody_waits_before_another_route_is_asked():
    journey = begin(HOSTS).after(Outcome.UNREACHED)

    assert journey.longest_wait_s == 0.0


def test_when_nobody_takes_a_connection_all_are_asked_once_more_after_a_wait():
    journey = begin(HOSTS)
    for _ in range(3):
        journey = journey.after(Outcome.UNREACHED)

    assert (journey.host, journey.longest_wait_s) == ("http://a", RULES.backoff_first_s)
    for _ in range(2):
        journey = journey.after(Outcome.UNREACHED)
    assert journey.after(Outcome.UNREACHED) is None


@pytest.mark.parametrize("final", [Outcome.HOST, Outcome.STALLED, Outcome.ABSENT, Outcome.REFUSED])
def test_there_is_no_second_round_once_a_host_has_shown_what_it_is(final):
    journey = begin(HOSTS)
    for outcome in (final, final, Outcome.UNREACHED, Outcome.UNREACHED):
        journey = journey and journey.after(outcome)

    assert journey is None


def test_waits_double_up_to_the_longest():
    rules = Rules(backoff_first_s=2, backoff_most_s=10)

    assert [rules.longest_wait_s(retry) for retry in range(1, 6)] == [2, 4, 8, 10, 10]


def test_refused_content_is_asked_for_past_the_caches_first():
    journey = begin(HOSTS)

    again = journey.after(Outcome.REFUSED)
    other = again.after(Outcome.REFUSED)

    assert (again.route, again.no_cache) == (journey.route, True)
    assert (other.route.host, other.no_cache) == ("http://b", False)


def test_when_one_proxy_spoils_what_all_mirrors_send_the_next_proxy_is_tried():
    chain = Chain(("http://a", "http://b"), (("http://p",), (DIRECT,)))

    routes = walk(chain, *[Outcome.REFUSED] * 8)

    assert [(r and (r.host, r.proxy)) for r in routes][::2] == [
        ("http://a", "http://p"),
        ("http://b", "http://p"),
        ("http://a", DIRECT),
        ("http://b", DIRECT),
        None,
    ]


def test_a_failing_proxy_burns_and_its_group_comes_before_the_next():
    routes = walk(PROXIES, Outcome.PROXY, Outcome.PROXY)

    assert proxies(routes) == ["http://p", "http://q", DIRECT]
    assert set(hosts(routes)) == {"http://a"}


def test_when_all_proxies_have_failed_for_a_host_the_next_host_has_all_of_them_again():
    routes = walk(PROXIES, Outcome.PROXY, Outcome.PROXY, Outcome.STALLED)

    assert hosts(routes)[-1] == "http://b"
    assert proxies(routes)[-1] == "http://p"


def test_a_proxy_that_takes_no_connection_is_not_asked_for_the_next_host_either():
    routes = walk(ONLY_PROXIES, Outcome.ABSENT, Outcome.PROXY, Outcome.PROXY)

    assert hosts(routes)[-1] == "http://b"
    assert proxies(routes) == ["http://p", "http://q", "http://r", "http://q"]


def test_no_host_is_blamed_when_no_proxy_can_be_reached():
    assert walk(ONLY_PROXIES, *[Outcome.ABSENT] * 3)[-1] is None


def test_what_worked_is_where_the_next_request_begins():
    standing = Standing().arrived(begin(HOSTS).after(Outcome.HOST), 5.0)

    assert begin(HOSTS, standing.rested(RULES, 6.0)).host == "http://b"


def test_the_first_host_is_tried_again_after_a_while():
    standing = Standing().arrived(begin(HOSTS).after(Outcome.HOST), 5.0)
    due_s = 5.0 + RULES.host_reset_after_s

    assert begin(HOSTS, standing.rested(RULES, due_s - 1)).host == "http://b"
    assert begin(HOSTS, standing.rested(RULES, due_s)).host == "http://a"


def test_moving_on_once_more_does_not_put_off_the_return():
    standing = Standing().arrived(begin(PROXIES).after(Outcome.PROXY), 5.0)
    standing = standing.arrived(begin(PROXIES, standing).after(Outcome.PROXY), 200.0)

    assert standing.rested(RULES, 5.0 + RULES.proxy_reset_after_s).burned == frozenset()


def test_burned_proxies_are_tried_again_after_a_while():
    standing = Standing().arrived(begin(PROXIES).after(Outcome.PROXY), 5.0)
    due_s = 5.0 + RULES.proxy_reset_after_s

    assert begin(PROXIES, standing.rested(RULES, due_s - 1)).proxy == "http://q"
    assert begin(PROXIES, standing.rested(RULES, due_s)).proxy == "http://p"


def test_others_learn_of_a_dead_proxy_before_the_request_that_met_it_has_ended():
    standing = Standing().failed(begin(PROXIES), Outcome.ABSENT, 0.0)

    assert begin(PROXIES, standing).proxy == "http://q"


def test_a_proxy_that_could_not_reach_a_host_is_not_avoided_by_others():
    assert Standing().failed(begin(PROXIES), Outcome.PROXY, 0.0) == Standing()


def test_a_request_out_of_time_leaves_the_next_one_the_host_that_it_did_not_come_to():
    journey = begin(HOSTS).after(Outcome.STALLED).after(Outcome.STALLED)

    standing = Standing().gave_up(journey, 1.0)

    assert begin(HOSTS, standing).host == "http://c"
    assert begin(HOSTS, standing.rested(RULES, 1.0 + RULES.host_reset_after_s)).host == "http://a"


def test_when_every_proxy_has_burned_all_are_tried_again():
    standing = replace(Standing(), burned=ONLY_PROXIES.proxies, proxy_left_at=0.0)

    assert begin(ONLY_PROXIES, standing).burned == frozenset()


def test_from_a_later_host_the_journey_wraps_around():
    routes = walk(HOSTS, Outcome.HOST, Outcome.HOST, standing=Standing(host="http://c"))

    assert hosts(routes) == ["http://c", "http://a", "http://b"]


def test_a_host_that_has_left_the_chain_is_no_beginning():
    assert begin(HOSTS, Standing(host="http://gone", group=7, proxy="http://x")).host == "http://a"


@given(DICE)
def test_the_dice_pick_one_member_of_a_group_for_everything(dice):
    first = begin(PROXIES, dice=dice)
    standing = Standing().arrived(first, 0.0)

    assert begin(PROXIES, standing, dice=0.0).proxy == first.proxy


@given(st.integers(0, 0xFFFFFFFF), st.sets(st.sampled_from(["http://p", "http://q"]), max_size=1))
def test_sharding_picks_by_the_object_among_those_that_have_not_burned(key, burned):
    standing = Standing(burned=frozenset(burned), proxy="http://q", proxy_left_at=0.0)
    journey = standing.journey(PROXIES, Rules(shard=True), key=key)

    alive = tuple(one for one in ("http://p", "http://q") if one not in burned)
    assert journey.proxy == choose(alive, key)


@given(st.lists(st.sampled_from(Outcome), max_size=300), CHAINS, DICE, st.integers(0, 3))
def test_every_journey_ends_and_never_leaves_its_chain(outcomes, chain, dice, retries):
    rules = Rules(max_retries=retries)
    journey = Standing().journey(chain, rules, dice=dice)
    steps = 0
    for outcome in outcomes:
        assert journey.host in chain.hosts
        assert journey.proxy in chain.proxy_groups[journey.group]
        assert journey.proxy not in journey.burned
        journey = journey.after(outcome)
        if journey is None:
            break
        steps += 1
    members = sum(map(len, chain.proxy_groups))
    assert steps <= (1 + retries) * len(chain.hosts) * (members + 1) * (retries + 2)


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.floats(0, 1e5)), max_size=60), CHAINS)
def test_whatever_has_happened_the_next_request_has_a_route(events, chain):
    standing, journey = Standing(), begin(chain)
    for outcome, now_s in events:
        standing = standing.failed(journey, outcome, now_s)
        following = journey.after(outcome)
        if following is None:
            standing = standing.gave_up(journey, now_s).rested(RULES, now_s)
        else:
            standing = standing.arrived(following, now_s)
        journey = begin(chain, standing)
        assert journey.proxy in chain.proxy_groups[journey.group]


@given(st.lists(st.sampled_from([Outcome.HOST, Outcome.STALLED, Outcome.REFUSED]), max_size=20))
def test_hosts_are_asked_in_their_order(outcomes):
    seen = list(dict.fromkeys(filter(None, hosts(walk(HOSTS, *outcomes)))))

    assert seen == list(HOSTS.hosts[: len(seen)])


@pytest.mark.parametrize(
    ("status", "headers", "via_proxy", "expected"),
    [
        (200, {}, False, None),
        (203, {}, True, None),
        (404, {}, True, Outcome.HOST),
        (502, {}, True, Outcome.HOST),
        (502, {"x-squid-error": "ERR_CONNECT_FAIL 111"}, True, Outcome.PROXY),
        (502, {"x-squid-error": "ERR_CONNECT_FAIL 111"}, False, Outcome.HOST),
        (502, {"proxy-status": "p; error=dns_error"}, True, Outcome.PROXY),
        (302, {}, False, Outcome.HOST),
        (429, {}, False, Outcome.BUSY),
        (403, {}, True, Outcome.PROXY),
        (403, {}, False, Outcome.HOST),
        (206, {}, False, Outcome.HOST),
    ],
)
def test_a_status_blames_host_or_proxy(status, headers, via_proxy, expected):
    assert outcome_of(status, headers, via_proxy=via_proxy) is expected
