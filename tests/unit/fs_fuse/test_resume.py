"""A session that goes on where another process stopped; the test is the kernel."""

import contextlib
import os
import socket
import stat
import struct
import threading
import time

import pytest

from cernvm.fs.fuse import (
    Heritage,
    MemoryNode,
    MemoryTree,
    OpenLedger,
    RequestsInHand,
    Session,
    Validity,
)
from cernvm.fs.fuse.protocol import RESENT_BIT, InitFlag, Notice, Opcode

LIMIT_S = 5


@pytest.fixture
def pair():
    kernel, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kernel.settimeout(LIMIT_S)
    with kernel, device:
        yield kernel, device.fileno()


@pytest.fixture
def tree():
    return MemoryTree({"file": MemoryNode(stat.S_IFREG | 0o644, b"content")})


@pytest.fixture
def resumed(pair, tree):
    """Resume on the pair; ends it by hanging up."""
    threads = []

    def resume(heritage, **settings):
        session = Session(pair[1], tree, validity=Validity(60, 60, 60), **settings)
        thread = threading.Thread(target=session.resume, args=(heritage,), daemon=True)
        thread.start()
        threads.append(thread)
        return session

    yield resume
    pair[0].close()
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def request(opcode, number, body=b"", inode=1):
    return struct.pack("=IIQQIIIHH", 40 + len(body), opcode, number, inode, 0, 0, 0, 0, 0) + body


def answer(kernel):
    message = kernel.recv(1 << 16)
    _, error, number = struct.unpack_from("=IiQ", message)
    return number, error, message[16:]


def test_it_asks_the_kernel_to_send_again_before_anything_else(pair, resumed):
    resumed(Heritage(44, InitFlag.HAS_RESEND))

    assert answer(pair[0]) == (0, Notice.RESEND, b"")


def test_a_request_that_is_sent_again_is_answered_under_its_marked_number(pair, resumed):
    kernel, _ = pair
    resumed(Heritage(44, InitFlag.HAS_RESEND))
    answer(kernel)
    kernel.send(request(Opcode.LOOKUP, RESENT_BIT | 12, b"file\0"))

    number, error, _ = answer(kernel)
    assert (number, error) == (RESENT_BIT | 12, 0)


def test_without_a_kernel_that_resends_it_answers_what_was_left(pair, resumed):
    kernel, _ = pair
    before = RequestsInHand()
    before.keep(12, request(Opcode.LOOKUP, 12, b"file\0"))
    before.keep(14, request(Opcode.STATFS, 14))
    before.keep(16, request(Opcode.FORGET, 16, struct.pack("=Q", 1)))
    resumed(Heritage(31, 0, RequestsInHand(os.dup(before.descriptor))))

    assert {answer(kernel)[:2] for _ in range(2)} == {(12, 0), (14, 0)}
    kernel.send(request(Opcode.GETATTR, 18, b"\0" * 16))
    assert answer(kernel)[:2] == (18, 0)
    assert RequestsInHand(os.dup(before.descriptor)).left() in (
        [],
        [request(Opcode.GETATTR, 18, b"\0" * 16)],
    )


def test_a_session_that_may_be_resumed_keeps_what_waits(pair, tree):
    kernel, device = pair
    session = Session(device, tree, validity=Validity(60, 60, 60), may_be_resumed=True)
    thread = threading.Thread(target=session.serve, daemon=True)
    thread.start()
    kernel.send(request(Opcode.INIT, 1, struct.pack("=4I", 7, 31, 1 << 17, 0)))
    answer(kernel)
    kernel.send(request(Opcode.STATFS, 2))
    answer(kernel)
    assert session.heritage.in_hand is not None
    assert session.heritage.minor == 31
    kernel.close()
    thread.join(LIMIT_S)


def test_leaving_ends_with_the_next_request_and_says_so(pair, resumed):
    kernel, _ = pair
    session = resumed(Heritage(44, InitFlag.HAS_RESEND), opened=OpenLedger())
    answer(kernel)
    assert not session.has_left
    session.leave()
    kernel.send(request(Opcode.STATFS, 2))
    end = time.monotonic() + LIMIT_S
    while not session.has_left and time.monotonic() < end:
        time.sleep(0.01)
    assert session.has_left

    kernel.send(request(Opcode.STATFS, 4))
    assert 4 not in answered(kernel)


def answered(kernel):
    """The numbers of all answers that come within a moment."""
    kernel.settimeout(0.3)
    numbers = []
    with contextlib.suppress(TimeoutError):
        while True:
            numbers.append(answer(kernel)[0])
    return numbers
