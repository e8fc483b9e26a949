"""RIPEMD-160, for machines whose OpenSSL has put it away with the legacy algorithms; it takes far longer than there.

Source: H. Dobbertin, A. Bosselaers, B. Preneel, "RIPEMD-160: A Strengthened Version of RIPEMD" (1996), appendix A.
"""

from __future__ import annotations

import struct

_BLOCK_BYTES = 64
_MASK = 0xFFFF_FFFF
_BLOCK = struct.Struct("<16I")
_STATE = struct.Struct("<5I")
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)
_STEPS = 80


def _digits(text: str) -> tuple[int, ...]:
    return tuple(int(digit, 16) for digit in text.replace(" ", ""))


# of each step of the left and the right line: which word of the block is added, and how far is rotated
_LEFT_WORDS = _digits(
    "0123456789abcdef 74d1a6f3c0952eb8 3ae49f812706db5c 19ba08c4d37fe562 40597c2ae138b6fd"
)
_RIGHT_WORDS = _digits(
    "5e7092b4d6f81a3c 6b370d5aef8c4912 f5137e69b8c2a04d 86413bf05c2d97ae cfa4158762de039b"
)
_LEFT_SHIFTS = _digits(
    "befc5879bdef6798 768db97f7cf9b7dc bd67e9dfe8d65c75 bcefef989e56865c 9f5b68dc5cdeb856"
)
_RIGHT_SHIFTS = _digits(
    "899bdff5778beec6 9df7c89b77c76fdb 97fb866ecd5edd75 f58bee6e69c9c5f8 85c9c5e68d65fdbb"
)
_LEFT_ADDED = (0x00000000, 0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xA953FD4E)
_RIGHT_ADDED = (0x50A28BE6, 0x5C4DD124, 0x6D703EF3, 0x7A6D76E9, 0x00000000)


class Ripemd160:
    """As `hashlib` would give it."""

    def __init__(self) -> None:
        self._state = _START
        self._rest = b""
        self._size_bytes = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes."""
        waiting = self._rest + bytes(data)
        self._size_bytes += len(waiting) - len(self._rest)
        whole = len(waiting) - len(waiting) % _BLOCK_BYTES
        for start in range(0, whole, _BLOCK_BYTES):
            self._state = _mixed(self._state, _BLOCK.unpack_from(waiting, start))
        self._rest = waiting[whole:]

    def digest(self) -> bytes:
        """The 20 bytes of all that was added."""
        fill = b"\x80" + bytes(-(len(self._rest) + 9) % _BLOCK_BYTES)
        end = self._rest + fill + struct.pack("<Q", self._size_bytes * 8 & (1 << 64) - 1)
        state = self._state
        for start in range(0, len(end), _BLOCK_BYTES):
            state = _mixed(state, _BLOCK.unpack_from(end, start))
        return _STATE.pack(*state)


State = tuple[int, int, int, int, int]


def _mixed(state: State, block: tuple[int, ...]) -> State:
    left = _line(state, block, _LEFT_WORDS, _LEFT_SHIFTS, _LEFT_ADDED, is_left=True)
    right = _line(state, block, _RIGHT_WORDS, _RIGHT_SHIFTS, _RIGHT_ADDED, is_left=False)
    turned = [
        (state[(n + 1) % 5] + left[(n + 2) % 5] + right[(n + 3) % 5]) & _MASK for n in range(5)
    ]
    return turned[0], turned[1], turned[2], turned[3], turned[4]


def _line(
    state: State,
    block: tuple[int, ...],
    words: tuple[int, ...],
    shifts: tuple[int, ...],
    added: tuple[int, ...],
    *,
    is_left: bool,
) -> State:
    a, b, c, d, e = state
    for step in range(_STEPS):
        turn = step // 16
        mixed = _function(turn if is_left else 4 - turn, b, c, d)
        total = (a + mixed + block[words[step]] + added[turn]) & _MASK
        a, e, d, c, b = e, d, _rotated(c, 10), b, (_rotated(total, shifts[step]) + e) & _MASK
    return a, b, c, d, e


def _function(turn: int, x: int, y: int, z: int) -> int:
    if turn == 0:
        return x ^ y ^ z
    if turn == 1:
        return x & y | ~x & z
    if turn == 2:
        return (x | ~y) ^ z
    if turn == 3:
        return x & z | y & ~z
    return x ^ (y | ~z)


def _rotated(number: int, bits: int) -> int:
    return (number << bits | number >> 32 - bits) & _MASK
