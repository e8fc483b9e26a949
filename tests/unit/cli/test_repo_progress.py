from cernvm.cli.repo import progress as shown
from cernvm.fs.publish.content import Content


def test_without_a_terminal_a_line_comes_now_and_then(tmp_path, monkeypatch, capsys):
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(shown, "_LINE_EVERY_S", 0.05)
    moment = iter(number / 50 for number in range(100))
    monkeypatch.setattr(shown.time, "monotonic", lambda: next(moment))

    with shown.shown_progress(tmp_path) as progress:
        for _ in range(20):
            progress.add_file(Content(1000, None))

    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 10
    assert lines[-1].startswith("cvm: publishing: ")
    assert "files" in lines[-1]


def test_what_is_quick_says_nothing(capsys):
    with shown.shown_progress() as progress:
        progress.add_file(Content(1000, None))

    assert capsys.readouterr().err == ""
