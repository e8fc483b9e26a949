"""What a machine's specification may be, and how light its launcher is."""

import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import InvalidInputError
from cernvm.site.hypervisor.port import MachineSpec, check_instance_id

USUAL = {
    "instance_id": "i-0123456789abcdef0",
    "hostname": "worker1.cernvm.test",
    "address": IPv4Address("10.77.0.2"),
    "root": Path("/mnt/os"),
}


@pytest.mark.parametrize(
    "change",
    [
        {"instance_id": "../../etc"},
        {"instance_id": "i-0123456"},
        {"hostname": ""},
        {"hostname": "-a"},
        {"hostname": "a..b"},
        {"hostname": "a" * 65},
        {"hostname": "a\nb"},
        {"root": Path("mnt")},
        {"repositories": {"../etc": Path("/etc")}},
        {"repositories": {"sft.cernvm.test": Path("etc")}},
        {"init": ()},
        {"init": ("init",)},
        {"init": ("/init", "a\0b")},
    ],
    ids=repr,
)
def test_a_specification_that_makes_no_sense_does_not_exist(change):
    with pytest.raises(InvalidInputError):
        MachineSpec(**{**USUAL, **change})


def test_a_usual_specification_exists():
    assert MachineSpec(**USUAL).init == ("/usr/sbin/cernvm-init",)


@given(st.text())
def test_an_instance_id_is_one_safe_folder_name(text):
    try:
        checked = check_instance_id(text)
    except InvalidInputError:
        return
    assert Path("/layers", checked).parent == Path("/layers")
    assert checked.isascii()


def test_the_launcher_stays_light():
    heavy = {
        "anyio",
        "asyncio",
        "dataclasses",
        "sqlalchemy",
        "starlette",
        "cryptography",
        "logging",
    }
    code = "import sys, cernvm.site.hypervisor.launch; print(*sys.modules)"

    finished = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)

    assert heavy.isdisjoint(finished.stdout.decode().split())
