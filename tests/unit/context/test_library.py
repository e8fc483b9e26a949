import pytest

from cernvm.context import find_template, list_templates, render_template, search_path
from cernvm.core.errors import ContextFormatError, NotFoundError


@pytest.fixture
def folders(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "worker.tpl").write_text("first [[INDEX]]")
    (second / "worker.tpl").write_text("second")
    (second / "head.tpl").write_text("head")
    (second / "plain").write_text("plain")
    return [tmp_path / "absent", first, second]


def test_the_first_folder_of_the_path_wins(folders):
    assert render_template("worker", {"INDEX": "1"}, search_path=folders) == "first 1"
    assert render_template("worker.tpl", {"INDEX": "2"}, search_path=folders) == "first 2"
    assert render_template("plain", {}, search_path=folders) == "plain"


def test_a_name_with_a_slash_is_a_path(folders):
    assert find_template(str(folders[2] / "head.tpl"), []) == folders[2] / "head.tpl"


@pytest.mark.parametrize("name", ["nothing", "", "..", "first/../worker", "a\0b"])
def test_a_missing_template_names_the_folders_searched(folders, name):
    with pytest.raises(NotFoundError) as caught:
        find_template(name, folders)

    assert str(folders[1]) in caught.value.advice


def test_lists_what_would_be_found(folders):
    assert list_templates(folders) == {
        "head": folders[2] / "head.tpl",
        "worker": folders[1] / "worker.tpl",
    }


@pytest.mark.parametrize("raw", [b"ok\n\xff\xfe", b"x" * ((1 << 20) + 1)])
def test_refuses_what_is_no_text_of_reasonable_size(tmp_path, raw):
    (tmp_path / "bad.tpl").write_bytes(raw)

    with pytest.raises(ContextFormatError, match="bad.tpl"):
        render_template("bad", {}, search_path=[tmp_path])


def test_the_search_path_of_a_user(home, tmp_path):
    path = search_path({"CVM_TEMPLATE_PATH": "/a::/b", "HOME": "/u"}, home)

    assert [str(folder) for folder in path] == ["/a", "/b", ".", str(home.templates), "/u/.cvm"]


def test_a_template_of_nearly_that_name_is_told(folders):
    with pytest.raises(NotFoundError) as caught:
        find_template("workr", folders)

    assert caught.value.advice.startswith("did you mean worker? Or put workr.tpl into")
