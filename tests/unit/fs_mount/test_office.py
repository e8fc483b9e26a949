import socket
import time

from cernvm.fs.mount.office import SEND_LIMIT_S, Office


def test_a_holder_that_does_not_read_holds_nobody_for_long():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        office = Office((), leave=lambda: None, holder_changed=lambda _: None, channel=ours)
        try:
            while True:
                ours.send(bytes(1000), socket.MSG_DONTWAIT)
        except BlockingIOError:
            began = time.monotonic()

        office.end()

        assert time.monotonic() - began < SEND_LIMIT_S + 5
