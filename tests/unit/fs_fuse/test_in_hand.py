"""What one process had in hand, the next one finds: requests without an answer, files read past us."""

import os
import socket
import struct

import pytest

from cernvm.fs.fuse import OpenLedger, RequestsInHand


def request(number, opcode=1, body=b"name\0"):
    return struct.pack("=IIQQIIIHH", 40 + len(body), opcode, number, 1, 0, 0, 0, 0, 0) + body


@pytest.fixture
def kernel():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs.fileno()


def again(in_hand):
    return RequestsInHand(os.dup(in_hand.descriptor))


def test_a_request_that_was_only_just_read_is_found(kernel):
    end, device = kernel
    in_hand = RequestsInHand()
    end.send(request(7))
    assert in_hand.receive(device) == request(7)

    assert again(in_hand).left() == [request(7)]


def test_requests_that_were_answered_are_not_found(kernel):
    end, device = kernel
    in_hand = RequestsInHand()
    for number in (7, 8, 9):
        end.send(request(number))
        assert in_hand.keep(number, in_hand.receive(device))
    in_hand.release(8)
    in_hand.release(9)

    left = again(in_hand).left()
    # the last one stays where it arrived until the next is read: at worst it is answered twice
    assert sorted(left) == [request(7), request(9)]


def test_what_was_left_is_kept_over_a_second_death(kernel):
    in_hand = RequestsInHand()
    for number in range(1, 40):
        in_hand.keep(number, request(number))

    second = again(in_hand)
    for number in range(1, 20):
        second.release(number)
    second.keep(100, request(100))
    third = again(second)

    assert sorted(third.left()) == sorted(request(n) for n in (*range(20, 40), 100))


def test_without_room_it_says_so():
    in_hand = RequestsInHand()
    kept = [in_hand.keep(number, request(number)) for number in range(1, 5000)]

    assert kept.count(True) == 4096
    in_hand.release(1)
    assert in_hand.keep(9999, request(9999))


def test_open_files_are_told_to_the_next_process():
    opened = OpenLedger()
    for inode in range(1, 1000):
        opened.note(inode, 2 * inode, 1)
    opened.note(5, 10, 2)
    opened.note(6, 12, 0)

    held = OpenLedger(os.dup(opened.descriptor)).held

    assert held[5] == (10, 2)
    assert 6 not in held
    assert len(held) == 998
