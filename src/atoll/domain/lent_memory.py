"""Lent memory: what the gateway tells of nodes that only lend it, and what is said to them.

A borrower puts blobs under names of its own, gets them back and drops them, one thing
after the other on each memory link. Blobs are encrypted by who puts them; who holds
them cannot read them, and nobody believes that they come back unchanged.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from atoll.domain.address import Address, check
from atoll.domain.bulk import BulkBeat, Parting
from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import NodeId
from atoll.domain.measure import is_hash

PART_BYTES: Final = 256 * 1024
"""Every part of a blob but the last has as many bytes."""
PARTS_AHEAD_MAX: Final = 16
"""Parts that may be on their way before the first of them is answered."""
MEMORY_BYTES_MAX: Final = PART_BYTES + 1024
BLOB_BYTES_MAX: Final = 4 * 1024**3
NAME_CHARS_MAX: Final = 200
PROBLEM_CHARS_MAX: Final = 500
LENT_BYTES_MIN: Final = 1024 * 1024
LENT_BYTES_LIMIT: Final = 1 << 50
NUMBER_LIMIT: Final = 1 << 63
_NAME = re.compile(rf"[!-~]{{1,{NAME_CHARS_MAX}}}")


class MemoryHere(msgspec.Struct, frozen=True, tag="memory_here"):
    """The gateway tells a node that knows of lent memory: this node lends some."""

    node: NodeId
    address: Address
    lent_bytes: int


class MemoryGone(msgspec.Struct, frozen=True, tag="memory_gone"):
    """This node lends no memory any more; what lay there is lost."""

    node: NodeId


class Borrower(msgspec.Struct, frozen=True, tag="memory_borrower"):
    """The gateway names a node that may put blobs to one that lends memory."""

    peer: NodeId
    address: Address


class BorrowerGone(msgspec.Struct, frozen=True, tag="memory_borrower_gone"):
    """This node may not any more; it may come back."""

    peer: NodeId


class Lent(msgspec.Struct, frozen=True, tag="lent"):
    """A node that lends memory tells how much of it is used, about once a second."""

    used_bytes: int
    blobs: int


class PutBlob(msgspec.Struct, frozen=True, tag="put_blob"):
    """Keep a blob of this size, in place of one of this name."""

    name: str
    size_bytes: int


class Room(msgspec.Struct, frozen=True, tag="room"):
    """There is room for the blob: its parts may come."""


class BlobPart(msgspec.Struct, frozen=True, tag="blob_part"):
    """The next bytes of a blob, in the order of the blob."""

    data: bytes


class PartTaken(msgspec.Struct, frozen=True, tag="part_taken"):
    """The answer to each part of a put but the last."""


class BlobKept(msgspec.Struct, frozen=True, tag="blob_kept"):
    """The answer to the last part: the blob is here."""


class NotKept(msgspec.Struct, frozen=True, tag="not_kept"):
    """The answer to a put that is not kept, or not any more; further parts are passed over."""

    problem: str


class GetBlob(msgspec.Struct, frozen=True, tag="get_blob"):
    """Is the blob of this name here?"""

    name: str


class BlobHere(msgspec.Struct, frozen=True, tag="blob_here"):
    """It is, and has so many bytes; its parts may be asked for."""

    size_bytes: int


class AskPart(msgspec.Struct, frozen=True, tag="ask_part"):
    """Send the part of this index, from 0 on, of the blob that was asked for last."""

    index: int


class NoBlob(msgspec.Struct, frozen=True, tag="no_blob"):
    """The blob that was asked for is not here, or not any more."""


class DropBlob(msgspec.Struct, frozen=True, tag="drop_blob"):
    """Forget the blob of this name."""

    name: str


class BlobDropped(msgspec.Struct, frozen=True, tag="blob_dropped"):
    """There is none of that name any more."""


MemoryMessage = (
    PutBlob
    | Room
    | BlobPart
    | PartTaken
    | BlobKept
    | NotKept
    | GetBlob
    | BlobHere
    | AskPart
    | NoBlob
    | DropBlob
    | BlobDropped
    | Parting
    | BulkBeat
)


def is_name(text: str) -> bool:
    """Whether a blob may be named so: 1 to 200 visible ASCII characters."""
    return _NAME.fullmatch(text) is not None


def parts_of(size_bytes: int) -> int:
    """How many parts a blob of this size has."""
    return -(-size_bytes // PART_BYTES)


def part_bytes(size_bytes: int, index: int) -> int:
    """How long one part of such a blob is."""
    return min(PART_BYTES, size_bytes - index * PART_BYTES)


def memory_problem(message: MemoryMessage) -> str:
    """What is wrong with a message of a memory link; empty if nothing is."""
    match message:
        case PutBlob(name, size_bytes):
            return _name_problem(name) or _size_problem(size_bytes)
        case GetBlob(name) | DropBlob(name):
            return _name_problem(name)
        case BlobHere(size_bytes):
            return _size_problem(size_bytes)
        case BlobPart(data):
            return "" if 0 < len(data) <= PART_BYTES else f"a part of {len(data)} bytes"
        case AskPart(index):
            return "" if 0 <= index < parts_of(BLOB_BYTES_MAX) else "an index out of range"
        case NotKept(problem):
            return "" if len(problem) <= PROBLEM_CHARS_MAX else "its text is too long"
        case BulkBeat(count):
            return "" if 0 <= count < NUMBER_LIMIT else "a number is out of range"
        case _:
            return ""


def _name_problem(name: str) -> str:
    return "" if is_name(name) else "a name that is none"


def _size_problem(size_bytes: int) -> str:
    return "" if 0 < size_bytes <= BLOB_BYTES_MAX else f"a blob of {size_bytes} bytes"


def lending_problem(message: MemoryHere | MemoryGone | Borrower | BorrowerGone | Lent) -> str:
    """What is wrong with what gateway and nodes tell of lent memory; empty if nothing is."""
    match message:
        case Lent(used_bytes, blobs):
            fits = 0 <= used_bytes < LENT_BYTES_LIMIT and 0 <= blobs < LENT_BYTES_LIMIT
            return "" if fits else "a number is out of range"
        case MemoryGone(node) | BorrowerGone(node):
            return "" if is_hash(node) else "a peer without a key"
        case MemoryHere(node, address, lent_bytes):
            if not LENT_BYTES_MIN <= lent_bytes < LENT_BYTES_LIMIT:
                return f"{lent_bytes} bytes lent"
            return _place_problem(node, address)
        case Borrower(peer, address):
            return _place_problem(peer, address)


def _place_problem(node: NodeId, address: Address) -> str:
    if not is_hash(node):
        return "a peer without a key"
    try:
        check(address)
    except ProtocolFault as fault:
        return fault.problem
    return ""
