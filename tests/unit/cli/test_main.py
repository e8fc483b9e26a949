import errno

import click
import pytest

from cernvm.cli.main import cvm, main


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


@pytest.mark.parametrize(("word", "said"), [("rpeo", "Did you mean repo?"), ("x", "'x'.")])
def test_a_word_that_is_none_is_told_with_the_nearest_one(word, said, capsys):
    assert end_of(word) == 2
    assert capsys.readouterr().err.rstrip().endswith(said)


def every_command(command, words=()):
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from every_command(command.get_command(context, name), (*words, name))


@pytest.mark.parametrize(("words", "command"), list(every_command(cvm)), ids=str)
def test_every_command_has_an_example(words, command):
    assert (command.epilog or "").startswith("Example: cvm "), words


@pytest.mark.parametrize("text", [None, "no TOML", "colour = 1"])
def test_a_configuration_that_cannot_be_read_is_told_with_the_next_step(text, capsys, tmp_path):
    path = tmp_path / "pilot.toml"
    if text is not None:
        path.write_text(text)

    assert end_of("agent", "pilot", "--config", str(path)) in (10, 12)
    said = capsys.readouterr().err
    assert str(path) in said
    assert "Traceback" not in said


def test_a_data_folder_that_is_a_file_is_told(capsys, monkeypatch, tmp_path):
    home = tmp_path / "home"
    home.write_text("")
    monkeypatch.setenv("CVM_HOME", str(home))
    assert end_of("job", "ls") == 11
    assert "Not a directory" in capsys.readouterr().err
