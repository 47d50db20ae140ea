"""Chunks by what they take: a full pipeline soon, and nobody held up for long."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.plan.chunks import IN_FLIGHT_MAX, ChunkCosts, Chunks, choose_chunks


def costs(
    stages: int = 4, call_s: float = 0.0, row_s: float = 0.001, links_s: float = 0.0
) -> ChunkCosts:
    """A ring of stages alike: a call takes `call_s` and `row_s` for each row."""

    def held_s(rows: int) -> float:
        return call_s + rows * row_s

    return ChunkCosts(lambda rows: stages * held_s(rows) + links_s, held_s, held_s)


def choose(of: ChunkCosts, **more: Any) -> Chunks:
    return choose_chunks(of, **{"rows_max": 512, "context": 4096, "hold_s": 0.1} | more)


def test_a_prompt_fills_the_pipeline() -> None:
    # 1,024 rows in chunks of 256 over four stages: (4 + 4 - 1) x 0.256 s.
    assert costs().enter_s(1024, 256) == pytest.approx(7 * 0.256)
    # The last chunk may be smaller, and a lone one waits for nobody.
    assert costs().enter_s(1000, 256) == pytest.approx(3 * 0.256 + 4 * 0.232)
    assert costs().enter_s(100, 256) == pytest.approx(4 * 0.1)


def test_without_overhead_small_chunks_and_with_much_large_ones() -> None:
    assert choose(costs()).rows == 16
    sizes = [choose(costs(call_s=call_s)).rows for call_s in (0.002, 0.02, 20.0)]
    assert 16 < sizes[0] < sizes[1] < sizes[2] == 512


def test_the_choice_is_about_the_best() -> None:
    of = costs(call_s=0.01)
    found = choose(of).rows

    def slowness(rows: int) -> float:
        prompts = (256, 1024, 4096)
        return sum(of.enter_s(p, rows) / min(of.enter_s(p, r) for r in TRIED) for p in prompts)

    assert slowness(found) <= 1.02 * min(slowness(rows) for rows in TRIED)
    assert all(slowness(rows) > slowness(found) for rows in TRIED if rows < found)


TRIED = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def test_where_nothing_overlaps_chunks_are_large() -> None:
    alone = costs(stages=1, call_s=0.05)
    assert choose(alone).rows >= 384


def test_beside_others_the_bound_counts() -> None:
    of = costs(call_s=0.02, row_s=0.001)
    found = choose(of, hold_s=0.09)
    # 64 rows take 84 ms, 96 would take 116.
    assert found.beside_rows == 64
    assert found.beside_s == pytest.approx(0.084)
    assert found.rows > 64
    # However tight the bound, twice a row's 21 ms may be taken.
    assert choose(of, hold_s=0.01).beside_rows == 16
    # Where a call is long in itself, rows are nearly for nothing.
    slow = choose(costs(call_s=0.5, row_s=0.001), hold_s=0.1)
    assert slow.beside_rows == 384
    assert slow.beside_s == pytest.approx(0.884)
    assert choose(of, hold_s=99.0).beside_rows == found.rows
    none = choose(of, hold_s=0.0)
    assert (none.beside_rows, none.beside_s, none.rows) == (0, 0.0, found.rows)


def test_a_fixed_size_stays() -> None:
    found = choose(costs(), rows_max=300, fixed=True)
    assert (found.rows, found.beside_rows) == (300, 96)
    assert choose(costs(row_s=1.0), rows_max=8, fixed=True).beside_rows == 8


def test_as_many_on_their_way_as_a_lap_holds() -> None:
    assert choose(costs(stages=4)).in_flight == 5
    assert choose(costs(stages=1)).in_flight == 4
    far = choose(costs(call_s=0.02, links_s=1.0))
    assert 5 < far.in_flight <= IN_FLIGHT_MAX
    assert choose(costs(links_s=60.0)).in_flight == IN_FLIGHT_MAX


def test_short_contexts() -> None:
    assert choose(costs(call_s=0.5), context=20).rows <= 24
