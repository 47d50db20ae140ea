"""Who gets a request."""

from __future__ import annotations

import pytest
from tests.sim.serving.paces import ring, server

from atoll.sim.serving.dealer import Dealer
from atoll.sim.serving.replica import Replica
from atoll.sim.serving.requests import Request
from atoll.sim.serving.streams import Stream


def deal(dealer: Dealer, n: int, *, prompt: int = 10) -> list[Replica | None]:
    chosen = []
    for _ in range(n):
        stream = Stream(Request(0.0, prompt, 5))
        replica = dealer.choose(stream)
        if replica is not None:
            replica.submit(stream, 0.0)
            dealer.changed(replica)
        chosen.append(replica)
    return chosen


def test_systems_alike_get_as_much() -> None:
    replicas = [Replica(server()) for _ in range(5)]
    chosen = deal(Dealer(replicas), 20)
    assert [chosen.count(replica) for replica in replicas] == [4] * 5


def test_faster_ones_get_more() -> None:
    fast, slow = Replica(server()), Replica(ring())
    chosen = deal(Dealer([slow, fast]), 33)
    assert chosen.count(fast) / chosen.count(slow) == pytest.approx(
        fast.speed / slow.speed, rel=0.2
    )


def test_those_that_are_down_or_too_small_get_nothing() -> None:
    small, large = Replica(server(room=20)), Replica(server())
    dealer = Dealer([small, large])
    assert deal(dealer, 4, prompt=100) == [large] * 4
    large.give_up(0.0)
    assert deal(dealer, 1, prompt=100) == [None]
    assert deal(dealer, 1) == [small]
    large.come_up(1.0)
    dealer.changed(large)
    assert deal(dealer, 1, prompt=100) == [large]


def test_who_has_less_left_is_next() -> None:
    one, two = Replica(server()), Replica(server())
    dealer = Dealer([one, two])
    deal(dealer, 4)
    two.outstanding = 0
    dealer.changed(two)
    assert deal(dealer, 2) == [two, two]
