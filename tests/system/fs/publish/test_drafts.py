"""What the original says of revisions that came of random changes."""

from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.publishing import Options, publish_changes
from cernvm.fs.publish.settings import Settings
from unit.fs_publish_draft.conftest import file_item, folder_item, link_item

FOLDERS = (b"a", b"b", b"c", b"d")
CONTENTS = (b"", b"1", b"2", b"3")


def test_the_originals_check_accepts_random_changes(share, seeded, count):
    shared = share()
    for content in CONTENTS:
        item = file_item(b"/x", content)
        shared.store.put(object_path(item.entry.digest, ObjectKind.PLAIN), content)
    for _ in range(count(60)):
        steps = [random_change(seeded) for _ in range(15)]

        publish_changes(
            shared.repository,
            shared.store,
            lambda draft, _, steps=steps: [step(draft) for step in steps],
            options=Options(),
        )

        assert shared.check() == ""


def random_change(seeded):
    path = b"".join(b"/" + seeded.choice(FOLDERS) for _ in range(seeded.randint(0, 3)))
    path += b"/" + seeded.choice((*FOLDERS, b".cvmfscatalog"))
    content = seeded.choice(CONTENTS)
    kind = seeded.randrange(7)
    if path.endswith(
        b".cvmfscatalog"
    ):  # what is called so and is no file, the original takes for a fault
        kind = seeded.choice((0, 3, 6))

    def change(draft):
        folder = path.rpartition(b"/")[0]
        if kind == 0:
            draft.remove(path)
            return
        if any(
            (item := draft.find(path[:at])) is not None and not item.entry.is_directory
            for at in range(1, len(path))
            if path[at : at + 1] == b"/"
        ):
            return
        draft.ensure_folders(folder, folder_item(b"").entry)
        if kind == 1:
            draft.put(folder_item(path, mtime_s=seeded.randrange(3)))
        elif kind == 2:
            draft.put(link_item(path))
        elif kind == 3:
            draft.put_linked([plain_file(path, content), plain_file(path + b"2", content)])
        elif kind == 4 and folder and b"/copy" not in folder:
            draft.copy(folder, b"/copy")
        else:
            draft.put(plain_file(path, content))

    return change


def plain_file(path, content):
    """Of content that is stored as it is."""
    item = file_item(path, content)
    item.entry.compression = 1
    return item


def test_the_original_shows_the_snapshots_of_older_tags(share):
    shared = share(settings=Settings(virtual_snapshots=True))
    shared.publish(tag="v1")
    (shared.tree / "script").write_text("changed")
    shared.publish(tag="v2")

    assert shared.check() == ""
    assert shared.mounted(lambda point: (point / ".cvmfs/snapshots/v1/script").read_text()) == (
        "#!/bin/sh\necho ran\n"
    )
    assert shared.mounted(lambda point: (point / "script").read_text()) == "changed"
