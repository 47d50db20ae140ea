"""What is said on a bulk link: a node asks for a shard in blocks, who holds it answers.

Answers come in the order of the asks. Nothing said here is believed: the
outline comes from the gateway, which vouches for it, and every piece has its
hash there.
"""

from __future__ import annotations

from typing import Final

import msgspec

from atoll.domain.ids import ModelId

BLOCK_BYTES_MAX: Final = 256 * 1024
"""Most bytes of one answer."""
ASKS_MAX: Final = 16
"""Asks of one link that may wait for their answers."""
PIECE_BYTES_MIN: Final = 1024 * 1024
PIECES_MAX: Final = 4096
"""An outline with more hashes would not fit into a message."""
HASH_BYTES: Final = 32
NUMBER_LIMIT: Final = 1 << 63
BULK_BYTES_MAX: Final = BLOCK_BYTES_MAX + 1024


class ShardRange(msgspec.Struct, frozen=True):
    """Layers [first, last) of a model."""

    model: ModelId
    first: int
    last: int


class AskOutline(msgspec.Struct, frozen=True, tag="ask_outline"):
    """What is this shard made of?"""

    shard: ShardRange


class Outline(msgspec.Struct, frozen=True, tag="outline"):
    """The shard's size, and the SHA-256 of each `piece_bytes` of it, one behind the other."""

    size_bytes: int
    piece_bytes: int
    hashes: bytes


class AskBlock(msgspec.Struct, frozen=True, tag="ask_block"):
    """`size` bytes of this shard from `offset` on, please."""

    shard: ShardRange
    offset: int
    size: int


class Block(msgspec.Struct, frozen=True, tag="block"):
    """Bytes of a shard, as asked for."""

    offset: int
    data: bytes


class NotHere(msgspec.Struct, frozen=True, tag="not_here"):
    """The answer to an ask that cannot be met; the link goes on."""

    problem: str
    hint: str = ""


class Parting(msgspec.Struct, frozen=True, tag="parting"):
    """Why the sender closes the link."""

    problem: str
    hint: str = ""


class BulkBeat(msgspec.Struct, frozen=True, tag="beat"):
    """Heartbeat on a bulk link."""

    count: int


BulkMessage = AskOutline | Outline | AskBlock | Block | NotHere | Parting | BulkBeat


def piece_bytes_for(size_bytes: int) -> int:
    """The smallest power of two, 1 MiB or more, of which `PIECES_MAX` cover a shard."""
    piece_bytes = PIECE_BYTES_MIN
    while piece_bytes * PIECES_MAX < size_bytes:
        piece_bytes *= 2
    return piece_bytes


def bulk_problem(message: BulkMessage) -> str:
    """What is wrong with a message; empty if nothing is."""
    match message:
        case Outline():
            return outline_problem(message)
        case AskOutline(shard):
            return _range_problem(shard.first, shard.last)
        case AskBlock(shard, offset, size):
            if not 0 < size <= BLOCK_BYTES_MAX:
                return f"a block of {size} bytes"
            return _range_problem(shard.first, shard.last, offset)
        case Block(offset, _):
            return _range_problem(offset)
        case BulkBeat(count):
            return _range_problem(count)
        case _:
            return ""


def _range_problem(*numbers: int) -> str:
    return "" if all(0 <= n < NUMBER_LIMIT for n in numbers) else "a number is out of range"


def outline_problem(outline: Outline) -> str:
    """What is wrong with an outline; empty if nothing is."""
    if not 0 < outline.size_bytes < 1 << 50:
        return f"a shard of {outline.size_bytes} bytes"
    if outline.piece_bytes != piece_bytes_for(outline.size_bytes):
        return f"pieces of {outline.piece_bytes} bytes"
    if len(outline.hashes) != HASH_BYTES * -(-outline.size_bytes // outline.piece_bytes):
        return "another number of hashes than of pieces"
    return ""
