"""A session over a socket pair, which carries messages as /dev/fuse does; the test is the kernel."""

import errno
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
import time

import pytest

from cernvm.fs.fuse import KernelSettings, MemoryNode, MemoryTree, MustWaitError, Session, Validity
from cernvm.fs.fuse.protocol import InitFlag, Opcode

DEADLINE_S = 5


class Waiting(MemoryTree):
    """A tree whose file contents are never at hand: readers wait for `arrived`."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self.arrived = threading.Event()

    def read(self, inode, offset, size_bytes, patience):
        if patience is None:
            raise MustWaitError
        if not self.arrived.wait(patience.remaining_s):
            raise OSError(errno.EIO, "nothing came")
        return super().read(inode, offset, size_bytes, patience)

    def lookup(self, parent, name, patience):
        if name == b"slow" and patience is None:
            raise MustWaitError
        if name == b"slow":
            self.arrived.wait(patience.remaining_s)
        return super().lookup(parent, name, patience)


class Kernel:
    """The other end: sends requests, receives answers."""

    def __init__(self, tree, **settings):
        self.end, self._session_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.settimeout(DEADLINE_S)
        self.session = Session(
            self._session_end.fileno(), tree, validity=Validity(60, 60, 60), **settings
        )
        self.thread = threading.Thread(target=self.session.serve, daemon=True)
        self.thread.start()

    def send(self, opcode, *, number, inode=1, body=b"", pid=0):
        head = struct.pack("=IIQQIIIHH", 40 + len(body), opcode, number, inode, 0, 0, pid, 0, 0)
        self.end.send(head + body)

    def receive(self):
        message = self.end.recv(1 << 20)
        length, error, number = struct.unpack_from("=IiQ", message)
        assert length == len(message)
        return number, error, message[16:]

    def init(self, flags=InitFlag.NO_OPEN_SUPPORT):
        self.send(Opcode.INIT, number=1, body=struct.pack("=4I", 7, 45, 1 << 17, flags))
        return self.receive()

    def close(self):
        self.end.close()
        self.thread.join(DEADLINE_S)
        self._session_end.close()
        assert not self.thread.is_alive()


@pytest.fixture
def nodes():
    return {
        "file": MemoryNode(stat.S_IFREG | 0o644, b"content", {b"user.x": b"value"}),
        "slow": MemoryNode(stat.S_IFREG | 0o644, b"late"),
        **{f"many/{i:03}": MemoryNode(stat.S_IFREG | 0o644) for i in range(100)},
    }


@pytest.fixture
def kernel(nodes):
    made = []

    def make(tree, **settings):
        kernel = Kernel(tree, **settings)
        made.append(kernel)
        kernel.init()
        return kernel

    yield make
    for one in made:
        one.close()


def read(offset=0, size=4096):
    return struct.pack("=QQIIQII", 0, offset, size, 0, 0, 0, 0)


def test_init_is_answered_with_the_lower_minor_number(nodes):
    kernel = Kernel(MemoryTree(nodes))
    try:
        number, error, body = kernel.init()
        assert (number, error) == (1, 0)
        assert struct.unpack_from("=II", body) == (7, 44)
    finally:
        kernel.close()


def test_a_name_is_found_and_referenced_until_it_is_forgotten(kernel, nodes):
    tree = MemoryTree(nodes)
    kernel = kernel(tree)

    kernel.send(Opcode.LOOKUP, number=2, body=b"file\0")
    number, error, body = kernel.receive()
    inode = struct.unpack_from("=Q", body)[0]
    referenced = tree.references[inode]
    kernel.send(Opcode.FORGET, number=3, inode=inode, body=struct.pack("=Q", 1))
    kernel.send(Opcode.STATFS, number=4)
    kernel.receive()

    assert (number, error, referenced) == (2, 0, 1)
    assert tree.references[inode] == 0


def test_an_opcode_that_is_not_served_is_answered_enosys(kernel, nodes):
    kernel = kernel(MemoryTree(nodes))

    kernel.send(46, number=2)

    assert kernel.receive() == (2, -errno.ENOSYS, b"")


def test_open_is_answered_where_the_kernel_cannot_do_without(kernel, nodes):
    kernel = kernel(MemoryTree(nodes))
    kernel.send(Opcode.OPEN, number=2)
    assert kernel.receive()[1] == -errno.ENOSYS

    kernel.init(flags=0)
    kernel.send(Opcode.OPEN, number=3)
    assert kernel.receive()[1] == 0


def test_a_crash_in_one_request_is_its_error_and_the_next_is_served(kernel, nodes, caplog):
    class Crashing(MemoryTree):
        def target(self, inode, patience):
            raise RuntimeError("a defect")

    kernel = kernel(Crashing(nodes))

    kernel.send(Opcode.READLINK, number=2, inode=2)
    assert kernel.receive() == (2, -errno.EIO, b"")
    kernel.send(Opcode.STATFS, number=3)
    assert kernel.receive()[:2] == (3, 0)
    assert "request.crashed" in caplog.text


def test_a_short_body_is_an_error_and_not_the_end(kernel, nodes):
    kernel = kernel(MemoryTree(nodes))

    kernel.send(Opcode.READ, number=2, inode=2, body=b"xx")

    assert kernel.receive() == (2, -errno.EIO, b"")


def test_others_are_answered_while_one_waits(kernel, nodes):
    tree = Waiting(nodes)
    kernel = kernel(tree)

    kernel.send(Opcode.READ, number=2, inode=2, body=read())
    kernel.send(Opcode.GETATTR, number=3, inode=2, body=b"\0" * 16)
    first = kernel.receive()
    tree.arrived.set()

    assert first[:2] == (3, 0)
    assert kernel.receive() == (2, 0, b"content")


def test_more_readers_than_threads_all_get_an_answer_by_their_deadline(kernel, nodes):
    kernel = kernel(
        Waiting(nodes), settings=KernelSettings(reader_deadline_s=0.5), waiting_threads=2
    )
    begin = time.monotonic()

    for number in range(2, 22):
        kernel.send(Opcode.READ, number=number, inode=2, body=read())
    answers = {kernel.receive()[:2] for _ in range(20)}

    assert answers == {(number, -errno.EIO) for number in range(2, 22)}
    assert time.monotonic() - begin < 2


def test_a_dying_reader_is_let_go_at_once(kernel, nodes):
    kernel = kernel(Waiting(nodes))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    kernel.send(Opcode.READ, number=2, inode=2, body=read(), pid=gone.pid)
    kernel.send(Opcode.INTERRUPT, number=3, body=struct.pack("=Q", 2))

    assert kernel.receive() == (2, -errno.EINTR, b"")


def test_a_reader_that_only_got_a_signal_still_gets_its_data(kernel, nodes):
    tree = Waiting(nodes)
    kernel = kernel(tree)

    kernel.send(Opcode.READ, number=2, inode=2, body=read(), pid=os.getpid())
    kernel.send(Opcode.INTERRUPT, number=3, body=struct.pack("=Q", 2))
    kernel.send(Opcode.STATFS, number=4)
    first = kernel.receive()
    tree.arrived.set()

    assert first[0] == 4
    assert kernel.receive() == (2, 0, b"content")


def test_a_reference_that_the_kernel_never_saw_is_given_back(kernel, nodes):
    tree = Waiting(nodes)
    kernel = kernel(tree)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    kernel.send(Opcode.LOOKUP, number=2, body=b"slow\0", pid=gone.pid)
    kernel.send(Opcode.INTERRUPT, number=3, body=struct.pack("=Q", 2))
    interrupted = kernel.receive()
    tree.arrived.set()

    assert interrupted == (2, -errno.EINTR, b"")
    end = time.monotonic() + DEADLINE_S
    while tree.references and time.monotonic() < end:
        time.sleep(0.01)
    kernel.send(Opcode.STATFS, number=4)
    assert kernel.receive()[0] == 4, "the late answer was sent all the same"
    assert not tree.references


@pytest.mark.parametrize("opcode", [Opcode.READDIR, Opcode.READDIRPLUS])
def test_a_directory_is_listed_whole_in_small_pieces(kernel, nodes, opcode):
    tree = MemoryTree(nodes)
    kernel = kernel(tree)
    kernel.send(Opcode.LOOKUP, number=2, body=b"many\0")
    folder = struct.unpack_from("=Q", kernel.receive()[2])[0]
    plus = 128 if opcode == Opcode.READDIRPLUS else 0

    names, offset, number = [], 0, 3
    while True:
        kernel.send(opcode, number=number, inode=folder, body=read(offset, 600))
        body = kernel.receive()[2]
        if not body:
            break
        while body:
            _, offset, length, _ = struct.unpack_from("=QQII", body, plus)
            names.append(body[plus + 24 : plus + 24 + length])
            body = body[plus + 24 + length + -length % 8 :]
        number += 1

    assert names == [b".", b".."] + [b"%03d" % i for i in range(100)]
    assert tree.references.total() == (101 if plus else 1)


def test_attribute_sizes_are_asked_for_before_values(kernel, nodes):
    kernel = kernel(MemoryTree(nodes))

    def ask(room, number):
        body = struct.pack("=II", room, 0) + b"user.x\0"
        kernel.send(Opcode.GETXATTR, number=number, inode=2, body=body)
        return kernel.receive()[1:]

    assert ask(0, 2) == (0, struct.pack("=II", 5, 0))
    assert ask(5, 3) == (0, b"value")
    assert ask(4, 4) == (-errno.ERANGE, b"")


def test_a_name_that_is_too_long_is_said_to_be(kernel, nodes):
    kernel = kernel(MemoryTree(nodes))

    kernel.send(Opcode.LOOKUP, number=2, body=b"n" * 256 + b"\0")

    assert kernel.receive()[1] == -errno.ENAMETOOLONG
