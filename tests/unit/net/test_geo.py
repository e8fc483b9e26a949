import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import FormatError
from cernvm.net.chain import DIRECT, Chain
from cernvm.net.geo import geo_path, name_for, reordered

HOSTS = ("http://one/cvmfs/a", "http://two:8000/cvmfs/a", "http://three/cvmfs/a")
PLAIN = Chain(HOSTS)
FALLBACK = Chain(HOSTS, (("http://p:3128",), ("http://f1:3128",), ("http://f2:80",)), 2)


def test_all_mirrors_are_named_in_their_order():
    assert geo_path(PLAIN, "proxy.site") == "api/v1.0/geo/proxy.site/one,two,three"


def test_fallback_proxies_follow_a_separator():
    assert geo_path(FALLBACK, "x") == "api/v1.0/geo/x/one,two,three,+PXYSEP+,f1,f2"


def test_a_name_with_anything_in_it_is_one_part_of_the_path():
    assert geo_path(PLAIN, "a/../b c").startswith("api/v1.0/geo/a%2F..%2Fb%20c/")


def test_the_answer_is_the_new_order():
    assert reordered(PLAIN, b"3,1,2\n").hosts == (HOSTS[2], HOSTS[0], HOSTS[1])


def test_hosts_and_fallback_groups_are_both_put_in_order():
    chain = reordered(FALLBACK, b"3,1,2,4,6,5")

    assert chain.hosts == (HOSTS[2], HOSTS[0], HOSTS[1])
    assert chain.proxy_groups == (("http://p:3128",), ("http://f2:80",), ("http://f1:3128",))


@pytest.mark.parametrize(
    "answer",
    [b"", b"1", b"1,2", b"1,2,2", b"0,1,2", b"1,2,4", b"1,2,3,4", b"1,,2", b"1,2,3,", b"a,b,c",
     b"1, 2, 3", b"-1,2,3", b"1,2,3\n\n", b"9" * 5000, b"\xb2,1,3"],
)  # fmt: skip
def test_what_is_not_exactly_a_permutation_is_refused(answer):
    with pytest.raises(FormatError):
        reordered(PLAIN, answer)


@given(st.permutations([1, 2, 3]))
def test_no_host_is_lost_or_made_up(order):
    assert sorted(reordered(PLAIN, ",".join(map(str, order)).encode()).hosts) == sorted(HOSTS)


@given(st.permutations([1, 2, 3, 4, 5, 6]))
def test_no_proxy_is_lost_or_made_up(order):
    chain = reordered(FALLBACK, ",".join(map(str, order)).encode())

    assert sorted(chain.proxy_groups) == sorted(FALLBACK.proxy_groups)
    assert chain.proxy_groups[0] == ("http://p:3128",)


@given(st.binary(max_size=30))
def test_any_answer_is_an_order_or_refused(answer):
    try:
        chain = reordered(FALLBACK, answer)
    except FormatError:
        return
    assert sorted(chain.hosts) == sorted(HOSTS)


def test_the_order_is_asked_for_as_seen_from_the_proxy():
    assert name_for(FALLBACK, "", "me") == "p"
    assert name_for(FALLBACK, "configured", "me") == "configured"
    assert name_for(Chain(HOSTS, ((DIRECT,),)), "", "me") == "me"
