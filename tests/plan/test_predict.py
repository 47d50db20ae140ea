"""A lap in its parts, and what bounds a full ring."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from atoll.domain.measure import WindowTime
from atoll.plan.fleet import Demand, Fleet, Gateway, LinkEntry, Machine, ModelCosts
from atoll.plan.predict import Placed, Predictor

MODEL = ModelCosts((100,) * 10, (0,) * 10, tuple(range(11)), 1000)
FLEET = Fleet(
    Gateway((WindowTime(1, 0.002), WindowTime(100, 0.2))),
    (
        Machine("a", 1, (WindowTime(1, 0.001), WindowTime(100, 0.1)), 0.0005),
        Machine("b", 1, (WindowTime(1, 0.003), WindowTime(100, 0.3))),
    ),
    (
        LinkEntry("gateway", "a", 0.010, 1e6),
        LinkEntry("a", "b", 0.020, 1e6),
        LinkEntry("b", "gateway", 0.005, 1e6),
    ),
)
PLACED = [Placed(0, 0, 6), Placed(1, 6, 10)]


def predictor(fleet: Fleet = FLEET, model: ModelCosts = MODEL, **demand: Any) -> Predictor:
    return Predictor(fleet, model, Demand(**demand))


def test_a_lap_is_the_sum_of_its_parts() -> None:
    found = predictor().predict(PLACED)
    assert [stage.step_s for stage in found.stages] == [
        pytest.approx(0.0065),
        pytest.approx(0.012),
    ]
    assert [stage.link_s for stage in found.stages] == [pytest.approx(0.011), pytest.approx(0.021)]
    assert found.back_s == pytest.approx(0.006)
    assert found.token_s == pytest.approx(0.002 + 0.0185 + 0.038)
    assert found.tokens_per_s == pytest.approx(1 / found.token_s)
    assert found.limit == "distance"


def test_each_link_is_told_in_the_order_of_the_ring() -> None:
    hops = predictor(streams=30).predict(PLACED).hops
    assert [(hop.source, hop.target, hop.delay_s) for hop in hops] == [
        ("gateway", "a", 0.010),
        ("a", "b", 0.020),
        ("b", "gateway", 0.005),
    ]
    assert {hop.bytes_per_s for hop in hops} == {1e6}
    # One row of 1,000 bytes, whatever the flights hold.
    assert [hop.window_s for hop in hops] == pytest.approx([0.011, 0.021, 0.006])


def test_a_full_ring_is_bounded_by_its_slowest_stage() -> None:
    # 30 streams in 3 flights of 10 rows: stage b takes 4 layers x 0.03 s.
    found = predictor(streams=30).predict(PLACED)
    assert found.limit == "b"
    assert found.tokens_per_s == pytest.approx(30 / (3 * 0.12))


def test_a_full_ring_is_bounded_by_a_slow_link() -> None:
    slow = msgspec.structs.replace(
        FLEET, links=(*FLEET.links[:2], LinkEntry("b", "gateway", 0.0, 1e4))
    )
    found = predictor(slow, streams=30).predict(PLACED)
    assert found.limit == "the link b to gateway"
    assert found.tokens_per_s == pytest.approx(30 / (3 * 10 * 1000 / 1e4))


def test_layers_with_more_weights_take_longer() -> None:
    uneven = ModelCosts((100,) * 5 + (300,) * 5, (0,) * 10, tuple(range(11)), 1000)
    found = Predictor(FLEET, uneven, Demand())
    assert found.stage_s(Placed(1, 0, 5), 1) == pytest.approx(5 * 0.0015)
    assert found.stage_s(Placed(1, 5, 10), 1) == pytest.approx(5 * 0.0045)


def test_chunks_of_a_prompt_follow_each_other() -> None:
    one = predictor(prompt=100, chunk_rows=100).predict(PLACED)
    two = predictor(prompt=200, chunk_rows=100).predict(PLACED)
    # The second chunk is behind the first one by the slowest stage's time.
    assert two.first_token_s - one.first_token_s == pytest.approx(4 * 0.3)


def test_a_chunk_is_computed_and_carried() -> None:
    found = predictor(streams=30, chunk_rows=100).predict(PLACED)
    # Stage b takes 4 layers x 0.3 s; 100 rows of 1,000 bytes go at 1e6 bytes a second.
    assert found.chunk_s == pytest.approx(1.2)
    assert found.chunk_link_s == pytest.approx(0.1)
    slow = msgspec.structs.replace(
        FLEET, links=(*FLEET.links[:2], LinkEntry("b", "gateway", 0.0, 1e4))
    )
    found = predictor(slow, streams=30, chunk_rows=100).predict(PLACED)
    assert found.chunk_s == pytest.approx(1.2)
    assert found.chunk_link_s == pytest.approx(10)


def test_a_chunk_takes_all_who_share_a_host() -> None:
    machines = tuple(msgspec.structs.replace(m, host="x") for m in FLEET.machines)
    together = msgspec.structs.replace(FLEET, machines=machines)
    # Stage a takes 6 layers x 0.1 s and half a millisecond besides.
    assert predictor(together, chunk_rows=100).predict(PLACED).chunk_s == pytest.approx(1.8005)


def test_stages_on_one_host_take_turns() -> None:
    machines = tuple(msgspec.structs.replace(m, host="x") for m in FLEET.machines)
    together = msgspec.structs.replace(FLEET, machines=machines)
    assert predictor(together, streams=4).lanes(PLACED) == 1
    assert predictor(streams=4).lanes(PLACED) == 3


def test_chunks_are_chosen_by_the_ring() -> None:
    fixed = predictor(chunk_rows=100).predict(PLACED).chunks
    assert fixed.rows == 100
    # Stage b takes 12 ms a row, so the bound asks for the least there is.
    assert fixed.beside_rows == 16
    assert fixed.beside_s == pytest.approx(16 * 0.012)
    chosen = predictor(chunk_rows=100, chunk_auto=True, prompt=200)
    found = chosen.predict(PLACED)
    assert 16 <= found.chunks.rows < 100
    # Behind the first chunk the prompt follows at the pace of stage b.
    behind, last = divmod(199, found.chunks.rows)
    lap_s = chosen.lap_s(PLACED, last + 1)
    assert found.first_token_s == pytest.approx(behind * 0.012 * found.chunks.rows + lap_s)
    assert found.first_token_s < predictor(chunk_rows=100, prompt=200).predict(PLACED).first_token_s
    assert predictor(hold_s=0.0).predict(PLACED).chunks.beside_rows == 0


def test_on_one_host_chunks_do_not_overlap() -> None:
    machines = tuple(msgspec.structs.replace(m, host="x") for m in FLEET.machines)
    together = msgspec.structs.replace(FLEET, machines=machines)
    one = predictor(together, prompt=100, chunk_rows=100)
    two = predictor(together, prompt=200, chunk_rows=100)
    more_s = two.predict(PLACED).first_token_s - one.predict(PLACED).first_token_s
    assert more_s == pytest.approx(one.lap_s(PLACED, 100))
    # What holds others up there is all stages together.
    assert one.predict(PLACED).chunks.beside_s == pytest.approx(16 * 0.018 + 0.0005)


SHORT = msgspec.structs.replace(MODEL, short_row_bytes=500)


def test_rows_are_short_where_prompts_wait_for_a_link_else() -> None:
    def of(bytes_per_s: float, model: ModelCosts = SHORT) -> Predictor:
        back = LinkEntry("b", "gateway", 0.0, bytes_per_s)
        fleet = msgspec.structs.replace(FLEET, links=(*FLEET.links[:2], back))
        return predictor(fleet, model, chunk_rows=100, streams=30)

    # 100 rows take stage b 1.2 s, and 100,000 bytes the link as long at 83 kB/s.
    quick, slow = of(84e3), of(83e3)
    assert (quick.row_bytes(PLACED), slow.row_bytes(PLACED)) == (1000, 500)
    assert not quick.predict(PLACED).short_rows
    found = slow.predict(PLACED)
    assert found.short_rows
    # Everything else is foretold with these rows; how long they would be is told as well.
    assert found.back_s == pytest.approx(500 / 83e3)
    assert found.chunk_link_s == pytest.approx(100 * 1000 / 83e3)
    assert of(1e4).predict(PLACED).tokens_per_s == pytest.approx(30 / (3 * 10 * 500 / 1e4))
    assert of(1e4, MODEL).predict(PLACED).tokens_per_s == pytest.approx(30 / (3 * 10 * 1000 / 1e4))
