import os

from hypothesis import given
from hypothesis import strategies as st

from cernvm.fs.cache.quota import NO_QUOTA, limits

sizes = st.integers(0, 10**13)


def partition(total_bytes, free_bytes, block=4096):
    blocks, free = total_bytes // block, free_bytes // block
    return os.statvfs_result((block, block, blocks, free, free, 0, 0, 0, 0, 255))


@given(st.one_of(st.just(NO_QUOTA), sizes), sizes, sizes, sizes, st.one_of(st.none(), sizes))
def test_within_the_limit_neither_quota_nor_partition_is_exceeded(quota, used, free, other, floor):
    space = partition(used + free + other, free)
    found = limits(quota, used_bytes=used, partition=space, floor_bytes=floor)

    assert 0 <= found.target_bytes <= found.limit_bytes
    if quota != NO_QUOTA:
        assert found.limit_bytes <= quota
    grown_bytes = found.limit_bytes - used
    if grown_bytes > 0:
        assert free - grown_bytes >= (floor or 0)


def test_half_of_the_quota_stays_where_the_partition_has_room():
    found = limits(1000, used_bytes=0, partition=partition(10**12, 10**12), floor_bytes=None)

    assert (found.limit_bytes, found.target_bytes) == (1000, 500)


def test_without_a_quota_the_partition_keeps_two_percent_free():
    space = partition(40960_000_000, 40960_000_000)
    found = limits(NO_QUOTA, used_bytes=0, partition=space, floor_bytes=None)

    assert found.limit_bytes == 40960_000_000 * 98 // 100
