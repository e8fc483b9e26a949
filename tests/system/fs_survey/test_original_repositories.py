"""Repositories that the original wrote: a check has nothing to say, and a collection harms nothing."""

import subprocess
from datetime import UTC, datetime

import pytest

from cernvm.fs.format.letter import parse_letter
from cernvm.fs.format.manifest import parse_manifest
from cernvm.fs.store.local import LocalStore
from cernvm.fs.survey.check import CheckOptions, Summary, check
from cernvm.fs.survey.collect import Keeping, collect
from cernvm.fs.survey.revisions import list_revisions
from system.samples import sample

EVERYTHING = CheckOptions(with_data=True, all_tags=True, everything=True)


@pytest.fixture(params=["vectors.cernvm.test", "sample.cernvm.test", "shake.cernvm.test"])
def original_store(request, tmp_path):
    """The store of a repository by the original, and a way to check it."""
    source = sample(request.param)
    if source is None:
        pytest.skip(f"{request.param}: name its folder in CVM_SAMPLE_REPOS")
    subprocess.run(["tar", "xzf", source / "tree.tar.gz", "-C", tmp_path], check=True)
    key = (source / "keys" / f"{request.param}.pub").read_bytes()
    store = LocalStore(tmp_path)

    def found():
        found = check(
            store, name=request.param, master_keys=[key], now=datetime.now(UTC),
            options=EVERYTHING, summary=Summary(),
        )  # fmt: skip
        return [one for one in found if not one.is_note]

    return store, found


def test_a_check_of_what_the_original_wrote_finds_nothing(original_store):
    _, found = original_store

    assert found() == []


def test_a_collection_leaves_what_the_original_would_leave(original_store):
    store, found = original_store
    manifest = parse_manifest(parse_letter(store.get(".cvmfspublished"), where="manifest").text)
    before = list_revisions(store, manifest)
    now = datetime.now(UTC)

    done = collect(store, manifest, keeping=Keeping(days=0, leftover_days=0), now=now, sign=None)

    left = list_revisions(store, manifest)
    assert len(left) == len(before) - done.gone_revisions
    assert {one.root_catalog for one in left} >= {one.root_catalog for one in before if one.tags}
    assert found() == []
