import pytest

from cernvm.core.home import Home
from system.site.served import served_site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site cloud that starts nothing real, shared by a module's tests."""
    with served_site(Home(tmp_path_factory.mktemp("attacked"))) as running:
        yield running
