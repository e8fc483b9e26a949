"""A server that denies what has alternative names below `data/`."""

from datetime import UTC, datetime

from attack.fs_reader.forge import CatalogMaker, Forge


def test_a_repository_with_alternative_paths_is_mounted_where_data_denies_its_roots(
    serve_documents, mount, point
):

    forge = Forge()
    maker = CatalogMaker(entries={b"/file": forge.file(b"file", b"content")})
    far = datetime(2100, 1, 1, tzinfo=UTC)
    forge.publish(maker, alternative_paths=True, expires_at=far)
    beside = {name: forge.documents[path] for path, name in forge.beside().items()}
    denied = " ".join(f"location = /{path} {{ return 403; }}" for path in forge.beside())

    served = serve_documents({**forge.documents, **beside}, folder="repository", rules=denied)
    mount(served)

    assert (point / "file").read_bytes() == b"content"
