"""Repositories with a history, published once and copied for each test."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cernvm.core.home import Home
from cernvm.fs.publish.creating import create_repository
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.repository import new_repository, open_storage, read_repository
from cernvm.fs.publish.settings import Settings
from cernvm.fs.survey.check import CheckOptions, Summary, check

NAME = "t.cernvm.test"


@pytest.fixture(scope="session")
def many_revisions(tmp_path_factory):
    """A home with a repository of eight revisions, two of which have names."""
    home = Home(tmp_path_factory.mktemp("history") / "home")
    repository = replace(new_repository(home, NAME), settings=Settings(automatic_tag=False))
    create_repository(home, repository)
    store = open_storage(repository)
    tree = tmp_path_factory.mktemp("tree")
    (tree / "sub/deep").mkdir(parents=True)
    (tree / "sub/.cvmfscatalog").touch()
    (tree / "sub/deep/.cvmfscatalog").touch()
    for number in range(8):
        for file in range(12):
            (tree / f"sub/deep/f{file}").write_bytes(b"%d of %d" % (file * (file % 3), number))
        (tree / "number").write_text(str(number))
        tag = f"v{number}" if number in (2, 5) else ""
        publish_tree(repository, store, tree, options=Options(tag=tag, workers=0))
    return home


@pytest.fixture
def home(many_revisions, tmp_path):
    """A copy of it; files that are never changed in place are shared."""
    copy = tmp_path / "home"
    shutil.copytree(many_revisions.path, copy, copy_function=link_or_copy)
    for record in (copy / "repositories").glob("*.toml"):
        text = record.read_text().replace(str(many_revisions.path), str(copy))
        record.unlink()
        record.write_text(text)
    return Home(copy)


def link_or_copy(source, target):
    if "/data/" in str(source):
        return shutil.os.link(source, target)
    return shutil.copy2(source, target)


@pytest.fixture
def repository(home):
    return read_repository(home, NAME)


@pytest.fixture
def store(repository):
    return open_storage(repository)


def problems(repository, store, **options):
    """What a check finds that is wrong."""
    found = check(
        store,
        name=repository.name,
        master_keys=[repository.keys.public.read_bytes()],
        now=datetime.now(UTC),
        options=CheckOptions(**options),
        summary=Summary(),
    )
    return [one for one in found if not one.is_note]
