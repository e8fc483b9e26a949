import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import HostError
from cernvm.net.failover import Route
from cernvm.net.redirect import next_stop

ROUTE = Route("http://a/cvmfs/repo", "http://proxy:3128")


@pytest.mark.parametrize(
    ("location", "host", "path"),
    [
        ("http://b:81/x/y", "http://b:81", "x/y"),
        ("/other/data", "http://a", "other/data"),
        ("else", "http://a", "cvmfs/repo/data/else"),
        ("//c/x", "http://c", "x"),
        ("http://b/x?signed=1", "http://b", "x?signed=1"),
        ("http://b/x#part", "http://b", "x"),
    ],
)
def test_a_redirect_leads_to_another_place_by_the_same_proxy(location, host, path):
    assert next_stop(ROUTE, "data/ab", location) == (Route(host, ROUTE.proxy), path)


@pytest.mark.parametrize(
    "location",
    [
        "",
        "https://a/x",
        "ftp://a/x",
        "file:///etc/passwd",
        "http://user@a/x",
        "http://user:word@a/x",
        "http://a b/x",
        "http://a/\r\nX: y",
        "http://[::1/x",
        "http://a:0/x",
        "http://a:99999/x",
        "http://a/" + "x" * 3000,
    ],
)
def test_what_leaves_the_scheme_or_is_no_url_is_refused(location):
    with pytest.raises(HostError):
        next_stop(ROUTE, "data/ab", location)


@given(st.text(max_size=60))
def test_any_location_stays_in_the_scheme_or_is_refused(location):
    try:
        route, path = next_stop(ROUTE, "data/ab", location)
    except HostError:
        return
    assert route.host.startswith("http://")
    assert "@" not in route.host
    assert (path + route.host).isprintable()
