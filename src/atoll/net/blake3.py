"""BLAKE3's `derive_key` for short inputs: what clients of a relay sign.

Pure. Written after the BLAKE3 paper (O'Connor, Aumasson, Neves and
Wilcox-O'Hearn, 2020), sections 2.2 to 2.4; inputs of one block, 64 bytes at
most, are all that is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

BLOCK_BYTES = 64
_IV = (
    *(0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A),
    *(0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19),
)
_ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_LANES = (
    *((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)),
    *((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)),
)
_ROUNDS = 7
_WHOLE = 1 | 2 | 8
"""Flags of a block that is the first and last of its chunk, and the root."""
_CONTEXT, _MATERIAL = 32, 64
_MASK = 0xFFFFFFFF


def derive_key(context: bytes, material: bytes) -> bytes:
    """The 32 bytes that BLAKE3 derives from `material` for `context`; each at most a block."""
    key = struct.unpack("<8I", one_block(_IV, context, _CONTEXT))
    return one_block(key, material, _MATERIAL)


def one_block(key: Sequence[int], data: bytes, flags: int = 0) -> bytes:
    """BLAKE3 of `data` of at most one block under eight words of `key`, 32 bytes."""
    if len(data) > BLOCK_BYTES:
        raise ValueError(f"{len(data)} bytes are more than one block")
    words = list(struct.unpack("<16I", data.ljust(BLOCK_BYTES, b"\x00")))
    state = [*key, *_IV[:4], 0, 0, len(data), flags | _WHOLE]
    for _ in range(_ROUNDS):
        for index, lane in enumerate(_LANES):
            _mix(state, lane, words[2 * index], words[2 * index + 1])
        words = [words[at] for at in _ORDER]
    return struct.pack("<8I", *(state[i] ^ state[i + 8] for i in range(8)))


def _mix(state: list[int], lane: tuple[int, int, int, int], first: int, second: int) -> None:
    a, b, c, d = lane
    for word, right_d, right_b in ((first, 16, 12), (second, 8, 7)):
        state[a] = (state[a] + state[b] + word) & _MASK
        state[d] = _turn(state[d] ^ state[a], right_d)
        state[c] = (state[c] + state[d]) & _MASK
        state[b] = _turn(state[b] ^ state[c], right_b)


def _turn(word: int, right: int) -> int:
    return (word >> right) | (word << (32 - right)) & _MASK
