"""Beginnings of prompts, kept in tiers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.sim.serving.paces import POSITION, server

from atoll.sim.serving.caches import BLOCK_TOKENS, PrefixCache, Tier
from atoll.sim.serving.dealer import Dealer
from atoll.sim.serving.replica import NEVER, Replica
from atoll.sim.serving.requests import Request
from atoll.sim.serving.streams import Stream


def test_the_longest_beginning_is_found() -> None:
    cache = PrefixCache([Tier(10)])
    assert cache.find([1, 2, 3]) == (0, 0.0)
    cache.keep([1, 2, 3])
    assert cache.find([1, 2, 3, 4]) == (3, 0.0)
    assert cache.find([1, 9, 3]) == (1, 0.0)
    assert cache.find([2, 3]) == (2, 0.0)


def test_what_was_not_used_goes_to_the_next_tier_and_then_away() -> None:
    cache = PrefixCache([Tier(2), Tier(2, 0.5)])
    cache.keep([1, 2])
    cache.keep([3])
    # 1 is in the slower one; copied back, it takes the place of 2.
    assert cache.find([1]) == (1, 0.5)
    assert cache.find([1]) == (1, 0.0)
    assert cache.find([2]) == (1, 0.5)
    cache.keep([4, 5])
    assert sum(len(tier.kept) for tier in cache.tiers) == 4
    assert cache.find([3]) == (0, 0.0)


def test_streams_take_room_from_the_first_tier() -> None:
    cache = PrefixCache([Tier(4), Tier(2, 1.0)])
    cache.keep([1, 2, 3, 4])
    cache.bound_first(1)
    assert [list(tier.kept) for tier in cache.tiers] == [[4], [2, 3]]
    cache.bound_first(-3.0)
    assert [list(tier.kept) for tier in cache.tiers] == [[], [3, 4]]
    cache.clear()
    assert cache.find([4]) == (0, 0.0)


def first_times(cache: PrefixCache | None, *prompts: Sequence[int]) -> list[float]:
    """Seconds to the first token of prompts, one after the other."""
    replica = Replica(server(room=20_000), cache=cache)
    found, at_s = [], 0.0
    for blocks in prompts:
        request = Request(at_s, BLOCK_TOKENS * len(blocks), 2, tuple(blocks))
        stream = Stream(request)
        replica.submit(stream, at_s)
        while replica.ends_s < NEVER:
            at_s = replica.ends_s
            replica.end_phase(at_s)
        found.append(stream.first_s - request.at_s)
    return found


def test_what_is_kept_is_not_computed_again() -> None:
    block_s = BLOCK_TOKENS * 1e-4
    tiers = [Tier(100)]
    without = first_times(None, [1, 2, 3], [1, 2, 3], [1, 2, 9])
    kept = first_times(PrefixCache(tiers), [1, 2, 3], [1, 2, 3], [1, 2, 9])
    assert without == pytest.approx([3 * block_s] * 3, rel=0.1)
    assert kept[0] == pytest.approx(without[0])
    # All but the last position, and all but one block.
    assert kept[1] < 0.01 * block_s
    assert kept[2] == pytest.approx(block_s, rel=0.2)


def test_what_is_copied_takes_its_time() -> None:
    slow = PrefixCache([Tier(0), Tier(100, 0.02)])
    room = 3 * BLOCK_TOKENS * POSITION
    assert room < server(room=20_000).room
    # The first tier is what streams leave; here it is nothing.
    times = first_times(slow, [1, 2, 3])
    slow.bound_first(0)
    again = first_times(slow, [1, 2, 3])
    assert again[0] == pytest.approx(3 * 0.02, abs=0.002)
    assert times[0] > again[0]


def test_who_keeps_a_beginning_gets_the_next() -> None:
    replicas = [Replica(server()) for _ in range(4)]
    dealer = Dealer(replicas)
    chosen = []
    for blocks in ((1, 2), (5,), (1, 2, 3), (5, 6)):
        stream = Stream(Request(0.0, 512 * len(blocks), 5, blocks))
        replica = dealer.choose(stream)
        assert replica is not None
        replica.submit(stream, 0.0)
        dealer.changed(replica)
        chosen.append(replica)
    assert chosen[0] is chosen[2] is not chosen[1]
    assert chosen[1] is chosen[3]
    # Not where it is much busier than others.
    for _ in range(8):
        chosen[0].submit(Stream(Request(0.0, 10, 5)), 0.0)
    dealer.changed(chosen[0])
    assert dealer.choose(Stream(Request(0.0, 1536, 5, (1, 2, 3)))) is not chosen[0]
