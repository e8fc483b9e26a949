"""The gateway of tests/system, attacked over its own socket."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from cernvm.fs.gateway.lease import LeasePath
from system.fs_gateway.conftest import (  # noqa: F401
    grow,
    made_home,
    publishers,
    site,
)

NAME = "t.cernvm.test"


class Raw:
    """Requests as an attacker writes them."""

    def __init__(self, url):
        self.parts = urlsplit(url)

    def ask(self, method, target, body=b"", timeout=20, **headers):
        connection = http.client.HTTPConnection(
            self.parts.hostname, self.parts.port, timeout=timeout
        )
        try:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, self.parts.path + target, body=body, headers=named)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@pytest.fixture
def raw(site):  # noqa: F811
    return Raw(site.url)


@pytest.fixture
def holder(site):  # noqa: F811
    """A client, its key and a lease on /one."""
    client, key = site.key()
    given = client.lease(LeasePath(NAME, b"/one"), hostname="h", ttl_s=60)
    return client, key, given.token
