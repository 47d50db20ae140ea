"""The ends process across rings."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.conftest import MakeModel
from tests.support.children import is_running, new_children

from atoll.domain.errors import EngineFault
from atoll.gateway.ends_keeper import EndsKeeper
from atoll.gateway.options import RingOptions
from atoll.gateway.prepare import ends_options, prepare
from atoll.store.layout import Store

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("own_children")]
OPTIONS = RingOptions(nodes=1, streams=1, context=64, rows_max=16, chunk_rows=16, spin=1000)


async def test_one_process_until_it_ends_or_is_replaced(
    random_model: MakeModel, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    model = store.resolve(str(random_model()))
    prepared = prepare(model, store, OPTIONS)
    gone: asyncio.Queue[EngineFault] = asyncio.Queue()
    keeper = EndsKeeper(
        ends_options(model, prepared, OPTIONS),
        OPTIONS,
        done=lambda _message, _payload: None,
        gone=gone.put_nowait,
    )
    assert (keeper.pid, keeper.loaded) == (None, None)
    async with asyncio.timeout(30):
        first = await keeper.ready()
        assert await keeper.ready() is first
        assert keeper.loaded is not None
        os.kill(first.pid or 0, signal.SIGKILL)
        assert "killed by signal" in (await gone.get()).problem
        second = await keeper.ready()
        assert second is not first
        keeper.replace()
        third = await keeper.ready()
        assert third is not second
        assert not is_running(second.pid or 0)
        await keeper.close()
    prepared.release()
    assert new_children() == []
