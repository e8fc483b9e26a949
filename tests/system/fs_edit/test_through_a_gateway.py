"""Edits of a repository that is kept elsewhere, behind a gateway."""

import os

from cernvm.core.home import Home
from cernvm.fs.edit.copying import publish_copy
from cernvm.fs.edit.opening import Bench, begin, run_in
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


def test_what_is_kept_elsewhere_is_seen_in_an_edit(publishers, site, grow, tmp_path, need_fuse):  # noqa: F811
    joined = publishers()
    joined.publish(grow(a=b"here"), "/folder")
    bench = Bench(Home(tmp_path / "publisher0"), joined.repository, open_storage(joined.repository))
    begin(bench)  # which leaves a connection open
    command = ["cp", "/cvmfs/t.cernvm.test/folder/a", "/cvmfs/t.cernvm.test/folder/b"]

    assert run_in(bench, command, environment=dict(os.environ)) == 0

    publish_edits(bench)
    assert read_back(site.repository, site.store)[0][b"/folder/b"][1] == b"here"
