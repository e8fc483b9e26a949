import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import InvalidInputError
from cernvm.net.chain import DIRECT, Chain, make_chain, parse_hosts, parse_proxies, url_path

HOST = ("http://a",)


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


def test_a_proxy_may_be_named_without_its_scheme():
    assert parse_proxies("squid.site:3128") == (("http://squid.site:3128",),)


def test_a_proxy_that_is_named_twice_in_a_group_counts_once():
    assert parse_proxies("http://p|http://p/;DIRECT") == (("http://p",), (DIRECT,))


@pytest.mark.parametrize("text", ["", ";", "|"])
def test_no_proxy_means_direct(text):
    assert parse_proxies(text) == ((DIRECT,),)


def test_fallback_proxies_come_last():
    chain = make_chain(HOST, "http://p|http://q", "http://f;http://g")

    assert chain.proxy_groups == (("http://p", "http://q"), ("http://f",), ("http://g",))
    assert chain.fallback_groups == 2


@pytest.mark.parametrize("proxies", ["http://p|DIRECT", "http://p;DIRECT"])
def test_with_fallback_proxies_nothing_is_fetched_directly(proxies):
    chain = make_chain(HOST, proxies, "http://f")

    assert chain.proxy_groups == (("http://p",), ("http://f",))


def test_fallback_proxies_may_be_all_there_is():
    assert make_chain(HOST, "DIRECT", "http://f").proxy_groups == (("http://f",),)


def test_direct_is_no_fallback():
    with pytest.raises(InvalidInputError, match="DIRECT"):
        make_chain(HOST, "http://p", "http://f|DIRECT")


def test_a_chain_without_hosts_cannot_exist():
    with pytest.raises(InvalidInputError):
        Chain(())


@given(st.text(max_size=60))
def test_any_text_is_hosts_or_refused(text):
    try:
        hosts = parse_hosts(text)
    except InvalidInputError:
        return
    assert all(host.startswith(("http://", "https://")) for host in hosts)


@given(st.text(max_size=60), st.text(max_size=30))
def test_any_text_is_a_chain_or_refused(proxies, fallback):
    try:
        chain = make_chain(HOST, proxies, fallback)
    except InvalidInputError:
        return
    assert all(chain.proxy_groups)


@given(st.binary(max_size=80))
def test_any_name_of_a_file_is_a_path_without_spaces_or_line_ends(name):
    path = url_path(name)

    assert path.isascii()
    assert path == "" or path.isprintable()
    assert not set(path) & set(" ?#")
