import errno

import pytest

from cernvm.cli.main import main


def end_of(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, 32),
        (errno.EACCES, 14),
        (errno.EROFS, 14),
        (errno.ENOENT, 12),
        (errno.ENOTDIR, 11),
        (errno.EISDIR, 11),
        (errno.EIO, 1),
    ],
)
def test_an_error_of_the_system_names_the_path_and_the_next_step(number, code, capsys, monkeypatch):
    def broken(_environment):
        raise OSError(number, "as the kernel says", "/some/path")

    monkeypatch.setattr("cernvm.cli.main.Home.from_environment", broken)
    assert end_of("repo", "ls") == code
    what, advice = capsys.readouterr().err.splitlines()
    assert what.startswith("cvm: ")
    assert "/some/path" in what
    assert advice.startswith("  → ")


def test_a_data_folder_that_is_a_file_is_told(capsys, monkeypatch, tmp_path):
    home = tmp_path / "home"
    home.write_text("")
    monkeypatch.setenv("CVM_HOME", str(home))
    assert end_of("job", "ls") == 11
    assert "Not a directory" in capsys.readouterr().err
