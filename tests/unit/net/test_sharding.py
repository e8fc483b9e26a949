import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.net.sharding import POINTS_PER_PROXY, choose, points_of, shard_key

KEYS = st.integers(0, 0xFFFFFFFF)
GROUPS = st.lists(st.integers(0, 999), min_size=1, max_size=8, unique=True).map(
    lambda numbers: tuple(f"http://proxy{number}:3128" for number in numbers)
)


@given(GROUPS, KEYS)
def test_the_order_in_which_proxies_are_listed_does_not_matter(group, key):
    assert choose(group, key) == choose(tuple(reversed(group)), key)


@given(GROUPS.filter(lambda group: len(group) > 1), KEYS)
def test_when_a_proxy_burns_only_its_own_objects_move(group, key):
    owner = choose(group, key)
    burned = next(one for one in group if one != owner)

    assert choose(tuple(one for one in group if one != burned), key) == owner


@given(GROUPS, KEYS)
def test_an_object_belongs_to_the_next_point_on_the_ring(group, key):
    points = sorted(itertools.chain.from_iterable(map(points_of, group)))
    following = next((point for point in points if point >= key), points[0])

    assert following in points_of(choose(group, key))


def test_every_proxy_has_its_share():
    group = tuple(f"http://10.0.0.{number}:3128" for number in range(4))
    owners = [choose(group, key) for key in range(0, 1 << 32, 1 << 20)]

    assert all(owners.count(proxy) > len(owners) / 12 for proxy in group)


def test_a_proxy_has_sixteen_points_on_a_ring_of_32_bits():
    points = points_of("http://127.0.0.1:3128")

    assert len(set(points)) == POINTS_PER_PROXY
    assert all(0 <= point < 1 << 32 for point in points)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("data/00/000001aabb", 0x00000001),
        ("data/ff/ffffff00C", 0xFFFFFFFF),
        (".cvmfspublished", 0),
        ("data/zz/ffffff", 0),
        ("some/external/file", 0),
    ],
)
def test_the_key_is_the_beginning_of_the_hash_in_the_path(path, key):
    assert shard_key(path) == key
