"""Edits of a repository that is kept elsewhere, behind a gateway."""

from cernvm.core.home import Home
from cernvm.fs.edit.copying import publish_copy
from cernvm.fs.edit.opening import Bench, begin
from cernvm.fs.edit.publishing import publish_edits
from cernvm.fs.publish.repository import open_storage
from system.fs_gateway.conftest import grow, made_home, publishers, site  # noqa: F401
from system.fs_publish.conftest import read_back


def test_an_edit_is_published_by_the_gateway(publishers, site, tmp_path):  # noqa: F811
    joined = publishers()
    home = Home(tmp_path / "publisher0")
    bench = Bench(home, joined.repository, open_storage(joined.repository))
    begin(bench)
    (bench.place.upper / "folder").mkdir()
    (bench.place.upper / "folder" / "new").write_text("new")

    published = publish_edits(bench)
    publish_copy(bench.repository, bench.store, b"/folder", b"/copy")

    found, manifest = read_back(site.repository, site.store)
    assert published.is_new
    assert found[b"/folder/new"][1] == found[b"/copy/new"][1] == b"new"
    assert manifest.revision == published.revision + 1
