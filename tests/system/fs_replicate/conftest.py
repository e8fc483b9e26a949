"""An upstream for each test: a copy of one that is made once, since keys take their time."""

import shutil
from datetime import UTC, datetime

import pytest

from cernvm.fs.publish.keys import Keys, create_keys
from system.replicas import NAME, make_upstream, open_upstream


@pytest.fixture(scope="session")
def made_keys(tmp_path_factory):
    keys = Keys(tmp_path_factory.mktemp("keys"), NAME)
    create_keys(keys, now=datetime.now(UTC))
    return keys.folder


@pytest.fixture(scope="session")
def made_upstream(tmp_path_factory, made_keys):
    base = tmp_path_factory.mktemp("made")
    made = make_upstream(base, made_keys)
    with made.server:
        return base, made.publish("v0")


@pytest.fixture
def upstream(tmp_path, made_upstream):
    base, first = made_upstream
    shutil.copytree(base, tmp_path / "base", symlinks=True)
    made = open_upstream(tmp_path / "base")
    made.revisions.append(first)
    with made.server:
        yield made


@pytest.fixture
def copy(tmp_path):
    """Where the replica lies."""
    return tmp_path / "copy"
