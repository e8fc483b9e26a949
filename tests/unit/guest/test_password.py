import shutil
import subprocess

import pytest

from cernvm.guest.password import hash_password, matches
from conftest import missing


def test_hashes_as_the_specification_does():
    assert hash_password("Hello world!", "saltstring") == (
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiB"
        "FdcbYEdFCoEOfaS35inz1"
    )
    assert hash_password("", "abcdefgh") == (
        "$6$abcdefgh$v7sYNA18/BerGOYQLppYLyjH4yJilp8kqe/ef3KYMK9hOIdzH1yzcmP74Ay.m51y1jP3QqxM7Jl75S4CxDhBq."
    )


@pytest.mark.parametrize("password", ["x", "é" * 40, "a" * 64, "b" * 65, "p:w$ #"])
def test_hashes_as_other_programs_do(password):
    if not shutil.which("openssl"):
        missing("openssl")
    other = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", "abcdefgh", "-stdin"],
        input=password.encode() + b"\n", capture_output=True, timeout=20, check=True,
    ).stdout.decode().strip()  # fmt: skip

    assert hash_password(password, "abcdefgh") == other


def test_only_the_right_password_matches():
    hashed = hash_password("right")

    assert matches("right", hashed)
    assert not matches("wrong", hashed)
    assert not any(matches("right", other) for other in ("", "!", "*", "$1$a$b", "right", "$6$$"))


def test_two_hashes_of_one_password_differ():
    assert hash_password("x") != hash_password("x")
