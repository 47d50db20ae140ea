"""The draft model's process across rings."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest
from tests.support.children import new_children

from atoll.domain.errors import AtollError
from atoll.domain.generation import SamplingParams
from atoll.domain.ids import Slot
from atoll.gateway.draft_keeper import DraftKeeper
from atoll.gateway.options import RingOptions
from atoll.gateway.prepare import draft_options
from atoll.ring.coordinator_messages import DraftDone, DraftItem

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("own_children")]
BAD = DraftItem(Slot(0), 0, (10**6,), (), 2, SamplingParams())
ITEM = DraftItem(Slot(0), 0, (504, 3575, 282), (), 2, SamplingParams(temperature=0.0))


class Told:
    """What a keeper tells its ring."""

    def __init__(self, options: RingOptions, model: str | None = None) -> None:
        self.done: asyncio.Queue[DraftDone] = asyncio.Queue()
        self.gone: asyncio.Queue[AtollError] = asyncio.Queue()
        asked = draft_options(options)
        if asked is not None and model is not None:
            asked = msgspec.structs.replace(asked, model=model)
        self.keeper = DraftKeeper(
            asked, options, done=self.done.put_nowait, gone=self.gone.put_nowait
        )


def ring(draft: str) -> RingOptions:
    return RingOptions(
        nodes=1, streams=1, context=64, rows_max=16, chunk_rows=16, spin=1000, draft=draft
    )


async def test_without_a_draft_model_there_is_no_process() -> None:
    told = Told(ring(""))
    assert not await told.keeper.ready()
    assert told.keeper.pid is None
    await told.keeper.close()


async def test_one_process_until_it_ends(demo_model: Path) -> None:
    told = Told(ring(str(demo_model)))
    keeper = told.keeper
    async with asyncio.timeout(60):
        assert await keeper.ready()
        first = keeper.pid
        assert await keeper.ready()
        assert keeper.pid == first
        # Of two questions only the last one is of use.
        keeper.run((ITEM,))
        keeper.run((ITEM,))
        done = await told.done.get()
        assert [len(found or ()) for found in done.guesses] == [2]
        keeper.run((BAD,))
        assert (await told.done.get()).guesses == (None,)
        os.kill(first or 0, signal.SIGKILL)
        assert "killed by signal" in (await told.gone.get()).problem
        pids = [keeper.pid]
        keeper.run((ITEM,))
        assert await keeper.ready()
        pids.append(keeper.pid)
        assert pids[0] is None
        assert pids[1] not in (None, first)
        await keeper.close()
    assert told.done.empty()
    assert new_children() == []


async def test_a_model_that_does_not_load_is_told_and_done_without(
    demo_model: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"no model")
    told = Told(ring(str(demo_model)), model=str(bad))
    async with asyncio.timeout(60):
        assert not await told.keeper.ready()
        assert "bad.gguf" in (await told.gone.get()).problem
        await told.keeper.close()
    assert new_children() == []
