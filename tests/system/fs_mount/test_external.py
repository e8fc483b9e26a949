"""External data through a real mount, from nginx, honest and otherwise."""

import errno
import os
from datetime import UTC, datetime

import pytest

from attack.fs_reader.test_external_data import FIRST, OUTSIDE, SECOND, WHOLE, described

FAR = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def repository(serve_documents):
    return serve_documents(described(expires_at=FAR), folder="repository")


@pytest.fixture
def outside(serve_documents):
    """External files as their server has them: by their names."""

    def serve(**how):
        return serve_documents(
            {name.replace("%20", " "): data for name, data in OUTSIDE.items()},
            folder="outside",
            **how,
        )

    return serve


def test_external_files_are_read_where_they_lie(mount, point, repository, outside):
    server = outside()
    mount(repository, "--external-url", server.url)

    assert (point / "a b/whole").read_bytes() == WHOLE
    assert (point / "chunked").read_bytes() == FIRST + SECOND
    assert os.getxattr(point / "chunked", "user.external_file") == b"1"
    url = f"{server.url}/a%20b/whole".encode()
    assert os.getxattr(point / "a b/whole", "user.external_url") == url


def test_of_several_external_servers_the_dead_one_is_passed_by(mount, point, repository, outside):
    mount(repository, "--external-url", f"http://127.0.0.1:9;{outside().url}")

    assert (point / "chunked").read_bytes() == FIRST + SECOND


HOSTILE = {
    "no ranges": "max_ranges 0;",
    "a redirect": "location / { return 302 http://127.0.0.1:9/; }",
    "another part": "location / { return 206; add_header Content-Range 'bytes 0-1/9'; }",
    "an empty answer": "location / { return 200; }",
    "a page for everything": "location / { return 200 'not here'; }",
}


@pytest.mark.parametrize("trick", HOSTILE)
def test_a_hostile_external_server_gives_an_error_and_no_wrong_byte(
    mount, point, repository, outside, trick
):
    mount(repository, "--external-url", outside(rules=HOSTILE[trick]).url)

    with pytest.raises(OSError) as raised:
        (point / "chunked").read_bytes()
    assert raised.value.errno == errno.EIO


def test_without_a_server_of_external_data_reading_fails_and_why_names_the_option(
    cvm, mount, point, repository
):
    mount(repository)
    with pytest.raises(OSError):
        (point / "a b/whole").read_bytes()

    assert "--external-url" in cvm("why", point / "a b/whole").stdout
