"""A repository that another publisher made is gone on with here, and given back; nothing in it changes meanwhile."""

import os
import shutil
from pathlib import Path

import pytest

from cernvm.core.errors import ExistsError, NotFoundError, PrerequisiteError, TrustError
from cernvm.core.home import Home
from cernvm.fs.publish.adopting import adopt_repository, release_repository
from cernvm.fs.publish.keys import Keys, create_keys
from cernvm.fs.publish.publishing import publish_tree
from cernvm.fs.publish.repository import known_repositories, new_repository, read_repository
from system.fs_publish.conftest import check_equal, read_back


@pytest.fixture
def elsewhere(tmp_path):
    return Home(tmp_path / "elsewhere")


def brought(repository, home):
    """The repository as somebody with its storage and its keys names it."""
    return new_repository(
        home, repository.name, storage=repository.storage, keys=repository.keys.folder
    )


def everything(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "txn" not in path.parts
    }


def test_an_adopted_repository_is_published_to(repository, store, tree, elsewhere):
    publish_tree(repository, store, tree)

    adopted = adopt_repository(elsewhere, brought(repository, elsewhere))

    assert adopted.warnings == ()
    (tree / "more").write_bytes(b"more")
    published = publish_tree(read_repository(elsewhere, repository.name), store, tree)
    assert published.revision == 2
    found, _ = read_back(repository, store)
    check_equal(tree, found)


def test_adopting_and_releasing_change_nothing(repository, store, tree, elsewhere):
    publish_tree(repository, store, tree)
    folder = Path(repository.storage)
    before = everything(folder)

    adopt_repository(elsewhere, brought(repository, elsewhere))
    release_repository(elsewhere, read_repository(elsewhere, repository.name))

    assert everything(folder) == before
    assert known_repositories(elsewhere) == []


def test_what_the_manifest_says_is_taken_over(home, made_keys, elsewhere):
    from cernvm.core.digest import Algorithm
    from cernvm.fs.publish.creating import create_repository

    shutil.copytree(made_keys.folder, home.keys)
    made = new_repository(home, "t.cernvm.test", algorithm=Algorithm.SHAKE128)
    create_repository(home, made)

    adopt_repository(elsewhere, brought(made, elsewhere))

    assert read_repository(elsewhere, made.name).algorithm is Algorithm.SHAKE128


def test_the_keys_must_be_those_it_was_signed_with(repository, tmp_path, elsewhere):
    from datetime import UTC, datetime

    others = Keys(tmp_path / "others", repository.name)
    create_keys(others, now=datetime.now(UTC))
    wrong = new_repository(
        elsewhere, repository.name, storage=repository.storage, keys=others.folder
    )

    with pytest.raises(TrustError):
        adopt_repository(elsewhere, wrong)
    assert known_repositories(elsewhere) == []


def test_a_signing_key_of_another_certificate_is_refused(repository, tmp_path, elsewhere):
    from cernvm.fs.format.signature import create_private_key

    folder = tmp_path / "mixed"
    shutil.copytree(repository.keys.folder, folder)
    (folder / f"{repository.name}.key").write_bytes(create_private_key())
    mixed = new_repository(elsewhere, repository.name, storage=repository.storage, keys=folder)

    with pytest.raises(TrustError, match="does not belong"):
        adopt_repository(elsewhere, mixed)


def test_a_missing_master_key_is_told_with_the_day_it_will_be_needed(
    repository, tmp_path, elsewhere
):
    folder = tmp_path / "keys"
    shutil.copytree(repository.keys.folder, folder)
    os.unlink(folder / f"{repository.name}.masterkey")
    without = new_repository(elsewhere, repository.name, storage=repository.storage, keys=folder)

    assert "master key is not here" in adopt_repository(elsewhere, without).warnings[0]


def test_a_missing_signing_key_is_an_error(repository, tmp_path, elsewhere):
    folder = tmp_path / "keys"
    shutil.copytree(repository.keys.folder, folder)
    os.unlink(folder / f"{repository.name}.key")
    without = new_repository(elsewhere, repository.name, storage=repository.storage, keys=folder)

    with pytest.raises(PrerequisiteError):
        adopt_repository(elsewhere, without)


def test_a_known_name_and_an_empty_folder_are_refused(repository, home, elsewhere, tmp_path):
    with pytest.raises(ExistsError):
        adopt_repository(home, repository)
    empty = new_repository(
        elsewhere, repository.name, storage=tmp_path / "empty", keys=repository.keys.folder
    )
    with pytest.raises(NotFoundError):
        adopt_repository(elsewhere, empty)
    assert not (tmp_path / "empty").exists()
