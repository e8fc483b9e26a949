import pytest

from cernvm.core.home import Home
from system.site.served import served_site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site cloud that starts nothing real, shared by a module's tests."""
    with served_site(Home(tmp_path_factory.mktemp("site"))) as running:
        yield running


@pytest.fixture
def ec2(site):
    """A boto3 client of a site without instances."""
    client = site.client()
    yield client
    live = [
        each["InstanceId"]
        for reservation in client.describe_instances()["Reservations"]
        for each in reservation["Instances"]
        if each["State"]["Name"] != "terminated"
    ]
    if live:
        client.terminate_instances(InstanceIds=live)
    client.close()
