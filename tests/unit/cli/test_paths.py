"""Commands that speak about mounts take a path by its name: one stat of a sick mount would hold them."""

import click
import pytest

from cernvm.cli.exec import exec_
from cernvm.cli.mount import mount
from cernvm.cli.paths import PATH
from cernvm.cli.remount import remount
from cernvm.cli.umount import umount
from cernvm.cli.why import why


@pytest.mark.parametrize("command", [mount, umount, remount, why, exec_], ids=lambda c: c.name)
def test_no_argument_or_option_of_a_mount_command_touches_a_path(command):
    touching = [
        parameter.name
        for parameter in command.params
        if isinstance(parameter.type, click.Path) and parameter.type is not PATH
    ]

    assert touching == []
