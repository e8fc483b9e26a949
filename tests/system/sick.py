"""An HTTP server, and a proxy, with the faults that servers have: by the clock of a test, or per request by a seed."""

import enum
import random
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

PART_BYTES = 65536
DRIP_S = 1.0


class Fault(enum.Enum):
    """What is wrong with an answer."""

    NONE = "none"
    DEAD = "dead"  # nobody listens
    HOLE = "hole"  # takes the request and says nothing
    STALL = "stall"  # half of the body, then nothing
    DRIP = "drip"  # one byte a second
    FLIP = "flip"  # one bit is wrong
    SHORT = "short"  # half of the body, said to be all
    CUT = "cut"  # half of the body, then the end
    RESET = "reset"  # half of the body, then a reset
    ENDLESS = "endless"  # the body, and more without an end
    WRONG = "wrong"  # another file
    ERROR = "error"  # 500
    BUSY = "busy"  # 503, ask again in a minute
    GONE = "gone"  # 404
    BABBLE = "babble"  # no HTTP at all


class SickServer:
    """Serves a folder's files; as a proxy it has everybody's files from the same folder.

    `fall_ill` makes a `share` of all requests to come meet one of the faults, picked by the seed.
    """

    def __init__(self, folder, *, seed=20261121):
        self._folder = Path(folder)
        self._chance = random.Random(seed)
        self._faults, self._share = (Fault.NONE,), 1.0
        self._lock = threading.Lock()
        self._over = (
            threading.Event()
        )  # of the faults that stand now: who waits in one of them hangs up
        self._channels = set()
        self._others = sorted(path for path in self._folder.glob("data/*/*") if path.is_file())
        self.requests = 0
        self.port = 0
        self._listener = None
        self._listen()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def fall_ill(self, *faults, share=1.0):
        """From now on; who waits in an earlier fault is hung up on."""
        with self._lock:
            self._faults, self._share = faults or (Fault.NONE,), share
            self._over.set()
            self._over = threading.Event()
        if Fault.DEAD in faults:
            self._hang_up()
        elif self._listener is None:
            self._listen()

    def heal(self):
        self.fall_ill(Fault.NONE)

    def close(self):
        self._over.set()
        self._hang_up()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _listen(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _hang_up(self):
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            channels = list(self._channels)
        for channel in channels:
            _linger(channel)
            with suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener):
        while True:
            try:
                channel, _ = listener.accept()
            except OSError:
                return
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._channels.add(channel)
            threading.Thread(target=self._serve, args=(channel,), daemon=True).start()

    def _serve(self, channel):
        try:
            with suppress(OSError, ValueError, IndexError), channel, channel.makefile("rb") as file:
                while (line := file.readline(4096)).strip():
                    while file.readline(4096).strip():
                        pass
                    if not self._answer(channel, urlsplit(line.split()[1].decode()).path):
                        return
        finally:
            with self._lock:
                self._channels.discard(channel)

    def _pick(self):
        with self._lock:
            self.requests += 1
            fault = Fault.NONE
            if self._chance.random() < self._share:
                fault = self._chance.choice(self._faults)
            return fault, self._over, self._chance.random()

    def _answer(self, channel, path):
        """Answer one request; whether the connection can be used for another."""
        fault, over, dice = self._pick()
        try:
            body = (self._folder / path.lstrip("/")).read_bytes()
        except OSError:
            return _send(channel, 404, b"")
        half = body[: len(body) // 2]
        match fault:
            case Fault.NONE:
                return _send(channel, 200, body)
            case Fault.HOLE:
                over.wait()
            case Fault.STALL:
                _send(channel, 200, body, sent=half)
                over.wait()
            case Fault.DRIP:
                _send(channel, 200, body, sent=b"")
                for byte in body:
                    channel.sendall(bytes([byte]))
                    if over.wait(DRIP_S):
                        break
            case Fault.FLIP:
                at = int(dice * len(body))
                return _send(channel, 200, body[:at] + bytes([body[at] ^ 4]) + body[at + 1 :])
            case Fault.SHORT:
                return _send(channel, 200, half)
            case Fault.CUT:
                _send(channel, 200, body, sent=half)
            case Fault.RESET:
                _send(channel, 200, body, sent=half)
                _linger(channel)
            case Fault.ENDLESS:
                _send(channel, 200, body, length=False)
                while not over.is_set():
                    channel.sendall(bytes(PART_BYTES))
            case Fault.WRONG:
                asked = self._folder / path.lstrip("/")
                others = [other for other in self._others if other != asked]
                return _send(channel, 200, others[int(dice * len(others))].read_bytes())
            case Fault.ERROR:
                return _send(channel, 500, b"")
            case Fault.BUSY:
                return _send(channel, 503, b"", "Retry-After: 60\r\n")
            case Fault.GONE:
                return _send(channel, 404, b"")
            case Fault.BABBLE:
                channel.sendall(b"\x00\xff mumble\r\n" * 100)
        return False


def _send(channel, status, body, more="", *, sent=None, length=True):
    sized = f"Content-Length: {len(body)}\r\n" if length else "Connection: close\r\n"
    channel.sendall(f"HTTP/1.1 {status} Said\r\n{sized}{more}\r\n".encode())
    channel.sendall(body if sent is None else sent)
    return True


def _linger(channel):
    """Have the other side get ECONNRESET when this channel closes."""
    with suppress(OSError):
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
