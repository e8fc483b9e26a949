import subprocess
import sys
from pathlib import Path

import pytest

import cernvm.fs.mount
from cernvm.core.on_demand import on_demand


def test_a_front_shows_every_name_it_lists():
    for name in cernvm.fs.mount.__all__:
        assert getattr(cernvm.fs.mount, name).__module__.startswith("cernvm.fs.mount.")


def test_a_name_that_is_not_listed_is_missing_as_usual():
    with pytest.raises(AttributeError, match="nothing_such"):
        on_demand("cernvm.fs.mount", {})("nothing_such")
    with pytest.raises(ImportError):
        from cernvm.fs.mount import nothing_such  # noqa: F401


def test_no_listed_name_is_hidden_by_a_module():
    folder = Path(cernvm.fs.mount.__path__[0])
    modules = {path.stem for path in folder.glob("*.py")}

    assert modules.isdisjoint(cernvm.fs.mount.__all__)


def test_unmounting_imports_nothing_that_serves():
    code = "import sys, cernvm.cli.umount; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()

    assert "cernvm.fs.mount.ending" in loaded
    assert not {"cernvm.net", "cernvm.fs.reader", "cryptography"} & set(loaded)
