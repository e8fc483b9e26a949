import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import InvalidInputError, PrerequisiteError
from cernvm.fs.format.deflater import find_deflater

LEVELS = {
    "zlib": range(1, 10),
    "zlib-ng": range(1, 10),
    "isal": range(4),
    "libdeflate": range(1, 13),
}
SETTINGS = [f"{library}:{level}" for library, levels in LEVELS.items() for level in levels]


@given(
    st.sampled_from(SETTINGS),
    st.binary(max_size=2000),
    st.integers(1, 200),
    st.binary(max_size=100),
)
def test_every_deflater_makes_a_stream_that_zlib_reads(setting, unit, times, end):
    data = unit * times + end

    stored = find_deflater(setting).deflate(data)

    assert zlib.decompress(stored) == data
    assert find_deflater(setting).deflate(memoryview(data)) == stored


@pytest.mark.parametrize("setting", ["auto", *SETTINGS])
def test_tiny_files_keep_their_names_whoever_stores_them(setting):
    assert find_deflater(setting).deflate(b"tiny\n") == zlib.compress(b"tiny\n")
    assert find_deflater(setting).deflate(b"").hex() == "789c030000000001"


def test_a_setting_is_written_as_it_is_read():
    assert [str(find_deflater(setting)) for setting in SETTINGS] == SETTINGS
    assert str(find_deflater("zlib")) == "zlib:6"
    assert find_deflater("auto") == find_deflater("libdeflate:5")


@pytest.mark.parametrize(
    "setting", ["", "gzip", "zlib:0", "zlib:10", "isal:4", "libdeflate:13", "auto:3", "zlib:6\n"]
)
def test_what_is_no_deflater_is_refused(setting):
    with pytest.raises(InvalidInputError):
        find_deflater(setting)


def test_a_machine_without_the_libraries_has_zlib(monkeypatch):
    for module in ("deflate", "zlib_ng.zlib_ng", "isal.isal_zlib"):
        monkeypatch.setitem(sys.modules, module, None)

    assert str(find_deflater()) == "zlib:6"
    with pytest.raises(PrerequisiteError, match="zlib-ng is not installed"):
        find_deflater("zlib-ng")
