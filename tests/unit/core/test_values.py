import hashlib
import os
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.clock import Deadline, FakeClock
from cernvm.core.config import read_toml
from cernvm.core.digest import Algorithm, parse_digest
from cernvm.core.errors import ConfigError, DeadlineError, FormatError, InvalidInputError
from cernvm.core.home import check_repository_name, write_atomically, write_private
from cernvm.core.retry import backoff_s
from cernvm.core.units import format_bytes, format_seconds, parse_size


@given(st.sampled_from(list(Algorithm)), st.binary(max_size=64))
def test_a_digest_reads_back_from_its_text(algorithm, data):
    digest = algorithm.digest(data)

    assert parse_digest(str(digest)) == digest
    assert Algorithm.from_flag(algorithm.flag) is algorithm


def test_digests_are_those_of_the_format():
    assert str(Algorithm.SHA1.digest(b"")) == hashlib.sha1(b"").hexdigest()
    assert str(Algorithm.SHAKE128.digest(b"x")).endswith("-shake128")
    assert str(Algorithm.RMD160.digest(b"")) == "9c1185a5c5e9fc54612808977ee8f548b2258d31-rmd160"


@given(st.text(max_size=60))
def test_text_that_is_no_digest_is_refused(text):
    try:
        assert str(parse_digest(text)) == text
    except FormatError:
        pass


@pytest.mark.parametrize("name", ["../x.y", "a", "A.b", "a..b", ".a.b", "a.b/c", "a.b\n", "-a.b"])
def test_a_repository_name_cannot_be_a_path(name):
    with pytest.raises(InvalidInputError):
        check_repository_name(name)


def test_back_off_grows_to_its_maximum():
    waits = list(islice(backoff_s(initial_s=2, maximum_s=10, jitter=random.Random(1)), 12))

    assert waits[0] <= 2
    assert waits == sorted(waits)
    assert waits[-1] == 10


def test_a_deadline_names_the_action_that_was_too_slow():
    clock = FakeClock()
    deadline = Deadline.after(5, clock)
    deadline.check("reading")
    clock.advance(5)

    with pytest.raises(DeadlineError, match="reading took longer than 5 s"):
        deadline.check("reading")


def test_sizes_and_durations_read_as_people_write_them():
    assert parse_size("50 MB") == 50_000_000
    assert parse_size("2GiB") == 2**31
    assert format_bytes(1_500_000) == "1.5 MB"
    assert format_seconds(3725) == "1 h 2 min"
    with pytest.raises(InvalidInputError):
        parse_size("lots")


def test_a_secret_is_never_readable_by_others(tmp_path):
    path = tmp_path / "key"
    path.write_text("old")

    write_private(path, b"new")

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("write", [write_private, write_atomically])
def test_a_file_is_never_written_through_what_somebody_laid_out(tmp_path, write):
    stolen = tmp_path / "stolen"
    (tmp_path / f".key.{os.getpid()}.new").symlink_to(stolen)

    write(tmp_path / "key", b"secret")

    assert not stolen.exists()
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_threads_that_write_one_file_do_not_mix(tmp_path):
    contents = [bytes([number]) * 200_000 for number in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_atomically(tmp_path / "file", content), contents * 4))

    assert (tmp_path / "file").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "file").mkdir()

    with pytest.raises(IsADirectoryError):
        write_private(tmp_path / "file", b"secret")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_unknown_setting_is_an_error_that_names_it(tmp_path):
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Settings:
        port: int = 80
        name: str = ""

    path = tmp_path / "site.toml"
    path.write_text('port = 8080\nnmae = "x"\n')

    with pytest.raises(ConfigError, match="nmae.*did you mean name") as caught:
        read_toml(path, Settings)
    assert caught.value.key == "nmae"

    path.write_text('port = "http"\n')
    with pytest.raises(ConfigError, match="expected int, found str"):
        read_toml(path, Settings)

    path.write_text("port = 8080\n")
    assert read_toml(path, Settings) == Settings(8080, "")
