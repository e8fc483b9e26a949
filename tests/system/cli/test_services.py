"""Services as users start them: twice, with ports that are none; and what `cvm storage get` makes of odd names."""

import os
import subprocess
from contextlib import contextmanager

import pytest

from conftest import CVM


@contextmanager
def serving(home, word):
    child = subprocess.Popen(
        [CVM, word, "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "CVM_HOME": str(home.path)},
    )
    try:
        assert child.stdout.readline().startswith(b"listening on ")
        yield child
    finally:
        child.terminate()
        child.wait(10)
        child.stdout.close()


@pytest.mark.parametrize("word", ["repo", "storage", "bus"])
def test_a_second_server_does_not_take_the_place_of_the_first(word, home, cvm):
    record = home.run / f"{word}.json"
    with serving(home, word) as first:
        known = record.read_bytes()

        second = cvm(word, "serve", "--port", "0", check=False)

        assert second.returncode == 40
        assert f"process {first.pid} on 127.0.0.1:" in second.stderr
        assert record.read_bytes() == known
    assert not record.exists()


@pytest.mark.parametrize("word", ["repo", "storage", "bus", "site"])
def test_a_port_that_is_none_is_a_mistake_of_usage(word, cvm):
    assert cvm(word, "serve", "--port", "99999", check=False).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["", "--output", "x"], 11), (["a/"], 11), (["a/b"], 12), (["a/b", "--output", "/no/x"], 12)],
)
def test_what_cannot_be_fetched_is_told(arguments, code, home, cvm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serving(home, "storage"):
        ended = cvm("storage", "get", *arguments, check=False)

    assert ended.returncode == code
    assert "  → " in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
