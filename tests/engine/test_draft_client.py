"""The gateway's handle on a real draft process."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.engine.test_draft import GREEDY, PROMPT, options

from atoll.domain.errors import EngineFault
from atoll.engine.draft_client import YIELDS, DraftProcess
from atoll.engine.draft_messages import DraftDone, Wanted

pytestmark = pytest.mark.engine
WAIT_S = 60.0


async def test_it_guesses_and_says_when_it_ends(demo_model: Path) -> None:
    answers: asyncio.Queue[DraftDone] = asyncio.Queue()
    faults: asyncio.Queue[EngineFault] = asyncio.Queue()
    process = DraftProcess(answers.put_nowait, faults.put_nowait)
    try:
        async with asyncio.timeout(WAIT_S):
            loaded = await process.start(options(demo_model), spin=1000)
            assert loaded.n_vocab == 49152
            ours = os.getpriority(os.PRIO_PROCESS, 0)
            assert os.getpriority(os.PRIO_PROCESS, process.pid or 0) == min(19, ours + YIELDS)
            number = process.run((Wanted(0, 0, PROMPT, (), 3, GREEDY),))
            done = await answers.get()
            assert done.batch == number
            assert [len(drafted.tokens) for drafted in done.drafted] == [3]
            assert done.took_s > 0
            os.kill(process.pid or 0, signal.SIGKILL)
            assert "killed by signal" in (await faults.get()).problem
    finally:
        await process.close()


async def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"no model")
    process = DraftProcess(lambda _done: None, lambda _fault: None)
    try:
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(EngineFault, match=r"bad\.gguf"):
                await process.start(options(bad), spin=1000)
    finally:
        await process.close()
