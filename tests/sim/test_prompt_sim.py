"""What chunks do to a prompt and to others, where nothing is left to chance."""

from __future__ import annotations

import pytest

from atoll.plan.chunks import ChunkCosts, choose_chunks
from atoll.sim.prompt_sim import Ring, run_prompt

SIZES = (32, 64, 128, 256, 512)


def stage_s(rows: int, ring: Ring) -> float:
    return ring.call_s + rows * ring.row_s


def costs(ring: Ring) -> ChunkCosts:
    """What a plan would know of the ring."""

    def lap_s(rows: int) -> float:
        ends_s = 2 * (ring.call_s + rows * ring.ends_row_s)
        return ends_s + ring.stages * stage_s(rows, ring) + (ring.stages + 1) * ring.link_s

    def held_s(rows: int) -> float:
        return stage_s(rows, ring)

    return ChunkCosts(lap_s, held_s, held_s)


@pytest.mark.parametrize("rows", SIZES)
def test_a_prompt_alone_takes_what_is_foretold(rows: int) -> None:
    ring = Ring(rows, 0, others=0)
    assert run_prompt(ring).first_s == pytest.approx(costs(ring).enter_s(2000, rows), rel=0.06)


def test_the_size_that_is_chosen_is_about_the_quickest() -> None:
    known = costs(Ring(1, 0))
    chosen = choose_chunks(known, rows_max=512, context=4096, hold_s=0.1)
    found = run_prompt(Ring(chosen.rows, 0, others=0, in_flight=chosen.in_flight)).first_s
    assert found <= 1.05 * min(run_prompt(Ring(rows, 0, others=0)).first_s for rows in SIZES)


def test_as_many_chunks_are_on_their_way_as_a_lap_has_room_for() -> None:
    far = Ring(64, 0, others=0, link_s=0.1)
    known = costs(far)
    chosen = choose_chunks(known, rows_max=64, context=4096, hold_s=0.1, fixed=True)
    one_s, four_s, all_s = (
        run_prompt(Ring(64, 0, others=0, link_s=0.1, in_flight=n)).first_s
        for n in (1, 4, chosen.in_flight)
    )
    assert all_s == pytest.approx(known.enter_s(2000, 64), rel=0.06)
    assert one_s > 2 * four_s > 2 * all_s


@pytest.mark.parametrize("rows", [16, 64])
def test_others_wait_for_one_chunk_at_each_stage(rows: int) -> None:
    ring = Ring(512, rows)
    heedless, heedful = run_prompt(Ring(512, 0)), run_prompt(ring)
    assert heedless.gap_s > 2 * stage_s(512, ring)
    # A lap of their own windows, and at each stage a chunk that has just begun.
    own_s = ring.stages * stage_s(ring.others, ring) + (ring.stages + 1) * ring.link_s
    ends_s = 4 * (ring.call_s + rows * ring.ends_row_s)
    assert heedful.gap_s < own_s + ends_s + ring.stages * stage_s(rows, ring)
    # In a pipeline the prompt loses nothing by it: all stages are at work.
    assert heedful.first_s < heedless.first_s


def test_chunks_are_large_again_when_nobody_decodes() -> None:
    # The others are through long before the prompt would be in small chunks.
    ring = Ring(512, 16, others_tokens=14, call_s=0.02)
    small = run_prompt(Ring(16, 0, others_tokens=14, call_s=0.02))
    assert run_prompt(ring).first_s < 0.75 * small.first_s
