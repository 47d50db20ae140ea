"""What orders and answers about the way between two nodes may say."""

from __future__ import annotations

import math

import pytest

from atoll.domain.address import Address, HostPort
from atoll.domain.bulk import BulkBeat, Parting
from atoll.domain.ids import NodeId
from atoll.domain.timing import (
    BURST_BYTES_MAX,
    PART_BYTES,
    Hail,
    HailBack,
    PeerTimed,
    TimePeer,
    TimingMessage,
    YourTurn,
    answer_problem,
    hail_problem,
    order_problem,
)

PEER = NodeId("a" * 64)


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        (TimePeer(PEER, Address(), False), ""),
        (TimePeer(PEER, Address(HostPort("reef.example", 1)), True, 2 * PART_BYTES), ""),
        (TimePeer(NodeId("a" * 63), Address(), True), "a peer without a key"),
        (TimePeer(NodeId("A" * 64), Address(), True), "a peer without a key"),
        (TimePeer(PEER, Address(), True, PART_BYTES), "a burst of 8192 bytes"),
        (TimePeer(PEER, Address(), True, BURST_BYTES_MAX + 1), "a burst of 131073 bytes"),
        (TimePeer(PEER, Address(HostPort("reef.example", 0)), True), "port 0 is out of range"),
        (
            TimePeer(PEER, Address(HostPort("", 1)), False),
            "a host of its address is no name or address",
        ),
    ],
)
def test_orders(order: TimePeer, problem: str) -> None:
    assert order_problem(order) == problem


@pytest.mark.parametrize(
    ("figures", "problem"),
    [
        ((0.02, 1e6, 1.25e9), ""),
        ((0.0, 1e6, 1e6), "a round trip that cannot be"),
        ((-1.0, 1e6, 1e6), "a round trip that cannot be"),
        ((math.nan, 1e6, 1e6), "a round trip that cannot be"),
        ((math.inf, 1e6, 1e6), "a round trip that cannot be"),
        ((61.0, 1e6, 1e6), "a round trip that cannot be"),
        ((0.02, 0.0, 1e6), "a rate that cannot be"),
        ((0.02, 1e6, -1.0), "a rate that cannot be"),
        ((0.02, math.nan, 1e6), "a rate that cannot be"),
        ((0.02, 1e6, 1e12), "a rate that cannot be"),
    ],
)
def test_figures(figures: tuple[float, float, float], problem: str) -> None:
    assert answer_problem(PeerTimed(PEER, *figures)) == problem


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Hail(0), ""),
        (Hail(1, 15, bytes(PART_BYTES)), ""),
        (Hail(1, 64), "a burst that is too long"),
        (HailBack(1 << 63), "a number is out of range"),
        (BulkBeat(-1), "a number is out of range"),
        (YourTurn(), ""),
        (Parting("x"), ""),
    ],
)
def test_messages(message: TimingMessage, problem: str) -> None:
    assert hail_problem(message) == problem
