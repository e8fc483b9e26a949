import os
import subprocess

import pytest

from cernvm.core.home import Home
from cernvm.site.instance import BY_USER
from cernvm.site.state import open_state
from system.site.served import CVM, served_site, wait_for


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
    _end_all(site)


def _end_all(site):
    state = open_state(site.home.site)
    live = state.instances(live=True)
    for instance in live:
        state.request_termination(
            [instance.instance_id], owner_id=instance.owner_id, reason=BY_USER
        )
    wait_for(lambda: not state.instances(live=True))
    state.close()
