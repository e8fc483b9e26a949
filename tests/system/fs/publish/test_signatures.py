"""Keys that change, second signatures and objects beside the manifest, as the original's programs take them."""

from cernvm.fs.publish.rotating import begin_second_signature, rotate_signing_key
from cernvm.fs.publish.settings import Settings


def listing(point):
    return sorted(path.name for path in point.iterdir())


def test_the_original_passes_a_second_signature_by(share):
    shared = share()
    begin_second_signature(shared.repository, shared.store)
    shared.publish()

    assert b"\nE" in shared.store.get(".cvmfspublished")
    assert shared.mounted(listing) == sorted(path.name for path in shared.tree.iterdir())
    assert shared.check() == ""


def test_the_original_mounts_before_during_and_after_a_rotation(share):
    shared = share()
    shared.publish()
    wanted = sorted(path.name for path in shared.tree.iterdir())
    seen = [shared.mounted(listing)]

    rotate_signing_key(
        shared.repository, shared.store, wait=lambda _: seen.append(shared.mounted(listing))
    )
    seen.append(shared.mounted(listing))

    assert seen == [wanted] * 3
    assert shared.check() == ""


def test_the_original_mounts_what_lies_beside_the_manifest(share):
    shared = share(settings=Settings(alternative_paths=True))

    shared.publish()

    assert shared.mounted(listing) == sorted(path.name for path in shared.tree.iterdir())
    assert shared.check() == ""
