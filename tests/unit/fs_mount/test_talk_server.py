"""The original's socket when this process is short of threads."""

import socket
import threading

from cernvm.fs.mount import talk_server
from cernvm.fs.mount.talk_client import say


def test_a_process_without_threads_to_spare_answers_one_after_another(tmp_path, monkeypatch):
    listener = talk_server._listen(tmp_path / "io", tmp_path)
    accepting = threading.Thread(target=talk_server._accept, args=(listener, None), daemon=True)
    accepting.start()
    crashed = []
    monkeypatch.setattr(threading, "excepthook", crashed.append)

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refuse)
        said = [say(tmp_path / "io", "bogus", deadline_s=3) for _ in range(10)]
    said.append(say(tmp_path / "io", "bogus", deadline_s=3))

    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    accepting.join(3)
    assert said == ["unknown command\n"] * 11
    assert not crashed
    assert not accepting.is_alive()
