import os
import subprocess

import pytest

from cernvm.core.home import Home
from system.site.served import CVM, served_site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site cloud that starts nothing real."""
    with served_site(Home(tmp_path_factory.mktemp("cloud"))) as running:
        yield running


@pytest.fixture
def on(site, tmp_path, monkeypatch):
    """Run `cvm` against the site; afterwards nothing of this test's runs there."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, check=True, text_in=None):
        finished = subprocess.run(
            [CVM, *arguments],
            capture_output=True,
            text=True,
            input=text_in,
            timeout=60,
            env={**os.environ, "CVM_HOME": str(site.home.path), "CVM_TEMPLATE_PATH": str(tmp_path)},
            check=False,
        )
        if check and finished.returncode != 0:
            pytest.fail(finished.stderr or finished.stdout)
        return finished

    yield run
    run("terminate", "--all", "--wait")
