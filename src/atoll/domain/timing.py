"""How far two nodes are from each other: what the gateway asks, what they say, what they answer.

The gateway names two nodes to each other (`TimePeer`), one of them dials, and each
times round trips and a burst of its own (`Hail`) on a timing link. Both tell what
they saw (`PeerTimed`); the gateway believes the worse of the two.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from atoll.domain.address import Address, check
from atoll.domain.bulk import BulkBeat, Parting
from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import NodeId

PART_BYTES: Final = 8 * 1024
"""What one hail of a burst carries."""
BURST_BYTES_MAX: Final = 128 * 1024
"""Of one burst. A side sends two: the first opens the way, as TCP and QUIC begin slowly."""
BURSTS_MAX: Final = 2
HAILS_MAX: Final = 64
"""Of one side on one link: seven round trips, and the parts of two bursts."""
TIMING_BYTES_MAX: Final = PART_BYTES + 1024
NUMBER_LIMIT: Final = 1 << 63
ROUND_TRIP_S_MAX: Final = 60.0
BYTES_PER_S_MAX: Final = 1.25e9
"""Faster than this the clock cannot tell."""
PROBLEM_CHARS_MAX: Final = 500
KEY_CHARS: Final = 64


class TimePeer(msgspec.Struct, frozen=True, tag="time_peer"):
    """The gateway asks a node to time the way to another one, which it asks too.

    `dial`: whether to dial it, or to let it dial. `burst_bytes` bounds what is sent at
    a time.
    """

    peer: NodeId
    address: Address
    dial: bool
    burst_bytes: int = BURST_BYTES_MAX


class PeerTimed(msgspec.Struct, frozen=True, tag="peer_timed"):
    """What a node saw of the way to another one.

    `round_trip_s` is the smallest of several. `in_bytes_per_s` is the rate at which a
    burst of the other one came here, `out_bytes_per_s` the one at which ours was taken.
    """

    peer: NodeId
    round_trip_s: float
    in_bytes_per_s: float
    out_bytes_per_s: float


class PeerNotTimed(msgspec.Struct, frozen=True, tag="peer_not_timed"):
    """The answer of a node that was to dial, and why there is nothing to tell."""

    peer: NodeId
    problem: str


class Hail(msgspec.Struct, frozen=True, tag="hail"):
    """One of a burst, behind which `left` more come; the last one is answered at once.

    `number` cannot be guessed, so that nobody answers what has not arrived yet.
    """

    number: int
    left: int = 0
    padding: bytes = b""


class HailBack(msgspec.Struct, frozen=True, tag="hail_back"):
    """The answer to the hail of this number."""

    number: int


class YourTurn(msgspec.Struct, frozen=True, tag="your_turn"):
    """The sender has timed what it wanted; now the other side, or the link is done."""


TimingMessage = Hail | HailBack | YourTurn | Parting | BulkBeat


def hail_problem(message: TimingMessage) -> str:
    """What is wrong with a message of a timing link; empty if nothing is."""
    match message:
        case Hail(number, left, padding):
            if not 0 <= left < HAILS_MAX or len(padding) > PART_BYTES:
                return "a burst that is too long"
            return _number_problem(number)
        case HailBack(number):
            return _number_problem(number)
        case BulkBeat(count):
            return _number_problem(count)
        case _:
            return ""


def _number_problem(number: int) -> str:
    return "" if 0 <= number < NUMBER_LIMIT else "a number is out of range"


def order_problem(order: TimePeer) -> str:
    """What is wrong with an order to time a way; empty if nothing is."""
    if len(order.peer) != KEY_CHARS or not set(order.peer) <= set("0123456789abcdef"):
        return "a peer without a key"
    if not 2 * PART_BYTES <= order.burst_bytes <= BURST_BYTES_MAX:
        return f"a burst of {order.burst_bytes} bytes"
    try:
        check(order.address)
    except ProtocolFault as fault:
        return fault.problem
    return ""


def answer_problem(timed: PeerTimed) -> str:
    """What is wrong with a node's figures; empty if nothing is."""
    if not (math.isfinite(timed.round_trip_s) and 0 < timed.round_trip_s <= ROUND_TRIP_S_MAX):
        return "a round trip that cannot be"
    rates = (timed.in_bytes_per_s, timed.out_bytes_per_s)
    if not all(math.isfinite(rate) and 0 < rate <= BYTES_PER_S_MAX for rate in rates):
        return "a rate that cannot be"
    return ""
