import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import InvalidInputError
from cernvm.net.chain import DIRECT, Chain, parse_hosts, parse_proxies


def test_hosts_keep_their_order_and_names_are_filled_in():
    assert parse_hosts("http://a/cvmfs/@fqrn@;https://b:8443/@org@/", "sft.cern.ch") == (
        "http://a/cvmfs/sft.cern.ch",
        "https://b:8443/sft",
    )


@pytest.mark.parametrize(
    "text",
    ["ftp://a", "http://", "a/b", "http://a b/", "http://a/?q", "http://a:99999/", "http://[::1"],
)
def test_what_is_no_url_is_refused_and_named(text):
    with pytest.raises(InvalidInputError, match="URL"):
        parse_hosts(text)


def test_a_password_in_a_url_is_refused_without_being_shown():
    with pytest.raises(InvalidInputError) as caught:
        parse_hosts("http://user:geheim@a/")

    assert "geheim" not in str(caught.value)


def test_proxies_come_in_groups():
    assert parse_proxies("http://p1:3128|http://p2:3128;DIRECT") == (
        ("http://p1:3128", "http://p2:3128"),
        (DIRECT,),
    )


@pytest.mark.parametrize("text", ["", ";", "|"])
def test_no_proxy_means_direct(text):
    assert parse_proxies(text) == ((DIRECT,),)


def test_a_chain_without_hosts_cannot_exist():
    with pytest.raises(InvalidInputError):
        Chain(())


def test_shuffling_keeps_groups_and_members():
    chain = Chain(("http://a",), (tuple(f"http://p{n}" for n in range(9)), (DIRECT,)))

    mixed = chain.shuffled(random.Random(1))

    assert [set(group) for group in mixed.proxy_groups] == [set(g) for g in chain.proxy_groups]
    assert mixed != chain


@given(st.text(max_size=60))
def test_any_text_is_hosts_or_refused(text):
    try:
        hosts = parse_hosts(text)
    except InvalidInputError:
        return
    assert all(host.startswith(("http://", "https://")) for host in hosts)
