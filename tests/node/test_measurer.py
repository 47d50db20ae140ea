"""A real node that is asked to measure."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.hand_gateway import WAIT_S, HandGateway, open_hand_gateway

from atoll.domain.control import Refusal
from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import ModelId, ShardId
from atoll.domain.measure import (
    Measure,
    Measured,
    NotMeasured,
    ProbeRange,
    answer_problem,
    rows_for,
)
from atoll.engine.library import ENGINE_BUILD
from atoll.model.shard import hash_shard
from atoll.node import probe, probe_drift
from atoll.node.probe_cache import ProbeCache
from atoll.store.layout import FoundModel, Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]

ROWS_MAX = 32


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "BUDGET_S", 0.1)


def order(here: FoundModel, /, **changes: Any) -> Measure:
    def hashed(first: int, last: int) -> ProbeRange:
        return ProbeRange(first, last, hash_shard(here.path, first, last).shard)

    asked = Measure(here.model, 6, 0, ROWS_MAX, hashed(1, 2), hashed(1, 4))
    return replace(asked, **changes)


def kept_in(path: Path) -> bool:
    return path.exists() and b'"measured"' in path.read_bytes()


async def test_it_answers_and_keeps_the_answer(
    model: FoundModel, node_store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "probe.json"
    async with open_hand_gateway(model, node_store, probes=ProbeCache(file)) as hand:
        hand.control.send(order(model))
        measured = await hand.heard.next_message(Measured)
        assert answer_problem(measured, model.model, rows_for(ROWS_MAX)) == ""
        assert (measured.engine_build, measured.threads, measured.busy) == (ENGINE_BUILD, 1, False)
        assert measured.memory[0].name == "RAM"
        hand.control.send(order(model))
        again = await hand.heard.next_message(Measured)
        assert again.measured_at_s == measured.measured_at_s
    assert kept_in(file)
    async with open_hand_gateway(model, node_store, probes=ProbeCache(file)) as hand:
        hand.control.send(order(model, busy=True))
        # What was measured in peace is good beside others' work too.
        again = await hand.heard.next_message(Measured)
        assert (again.measured_at_s, again.busy) == (measured.measured_at_s, False)


async def test_beside_others_work_it_is_marked_and_not_kept(
    model: FoundModel, node_store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "probe.json"
    async with open_hand_gateway(model, node_store, probes=ProbeCache(file)) as hand:
        hand.control.send(order(model, busy=True, long=None))
        assert (await hand.heard.next_message(Measured)).busy
        await hand.form()
        hand.control.send(order(model))
        assert (await hand.heard.next_message(Measured)).busy
        await hand.computed(1, 0, 0, 0)
    assert not kept_in(file)


async def test_without_a_home_nothing_is_kept(hand: HandGateway, model: FoundModel) -> None:
    first: list[float] = []
    for _ in range(2):
        hand.control.send(order(model, long=None))
        first.append((await hand.heard.next_message(Measured)).measured_at_s)
    assert first[0] < first[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"short": ProbeRange(1, 2, ShardId("0" * 64))},
        {"model": ModelId("f" * 64), "long": None},
    ],
)
async def test_what_cannot_be_measured_is_said_and_the_node_stays(
    hand: HandGateway, model: FoundModel, changes: dict[str, Any]
) -> None:
    hand.control.send(order(model, **changes))
    assert (await hand.heard.next_message(NotMeasured)).problem
    await hand.form()
    await hand.computed(1, 0, 0, 0)


async def test_an_order_that_makes_no_sense_ends_the_link(
    hand: HandGateway, model: FoundModel
) -> None:
    hand.control.send(order(model, model=ModelId("../../secrets")))
    refusal = await hand.heard.next_message(Refusal)
    assert "a measurement of a model or shard in it is no hash" in refusal.problem
    await asyncio.wait([hand.running], timeout=WAIT_S)
    assert isinstance(hand.running.exception(), ProtocolFault)


async def test_what_no_longer_fits_is_measured_again(
    model: FoundModel,
    node_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The stage's own steps tell; every ratio is taken for too large here."""
    monkeypatch.setattr(probe_drift, "STEPS_MIN", 3)
    monkeypatch.setattr(probe_drift, "RATIO_MAX", 0.0)
    file = tmp_path / "probe.json"
    async with open_hand_gateway(model, node_store, probes=ProbeCache(file)) as hand:
        hand.control.send(order(model))
        measured = await hand.heard.next_message(Measured)
        assert kept_in(file)
        await hand.form()
        for seq in range(4):
            await hand.computed(1, 0, seq, seq)
        async with asyncio.timeout(WAIT_S):
            while kept_in(file):
                await asyncio.sleep(0.05)
        assert "probe.stale" in caplog.text
    async with open_hand_gateway(model, node_store, probes=ProbeCache(file)) as hand:
        hand.control.send(order(model))
        anew = await hand.heard.next_message(Measured)
        assert anew.measured_at_s > measured.measured_at_s
