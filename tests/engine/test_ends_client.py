"""The gateway's handle on a real ends process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tests.support.cut_models import cut
from tests.support.random_models import N_VOCAB

from atoll.domain.errors import EngineFault
from atoll.domain.generation import GenerateRequest, SamplingParams, TopLogprob
from atoll.domain.wire import F32, row_bytes
from atoll.engine.devices import GPU, PROCESSOR, Device
from atoll.engine.ends_client import EndsProcess
from atoll.engine.ends_messages import EndsLoaded, EndsOptions, Head, ItemsDone, Tail
from atoll.engine.library import ENGINE_BUILD
from atoll.engine.parcel_messages import GivenIn, ParcelAnswer, PutIn, TakenOut, TakeOut
from atoll.engine.whole import WholeModel

pytestmark = pytest.mark.engine

WAIT_S = 60.0
PROMPT = (1, 260, 40, 77, 9)
GREEDY = SamplingParams(temperature=0.0)


class Ends:
    def __init__(self) -> None:
        self.answers: asyncio.Queue[tuple[ItemsDone, bytes]] = asyncio.Queue()
        self.faults: asyncio.Queue[EngineFault] = asyncio.Queue()
        self.parcels: asyncio.Queue[tuple[ParcelAnswer, bytes]] = asyncio.Queue()
        self.process = EndsProcess(
            lambda done, payload: self.answers.put_nowait((done, payload)),
            self.faults.put_nowait,
            lambda answer, parcel: self.parcels.put_nowait((answer, parcel)),
        )

    async def start(self, options: EndsOptions, gpu: Device | None = None) -> EndsLoaded:
        async with asyncio.timeout(WAIT_S):
            return await self.process.start(options, memory_bytes=None, spin=None, gpu=gpu)

    async def run(self, *items: Head | Tail, payloads: tuple[bytes, ...] = ()) -> ItemsDone:
        return (await self.run_all(*items, payloads=payloads))[0]

    async def run_all(
        self, *items: Head | Tail, payloads: tuple[bytes, ...] = ()
    ) -> tuple[ItemsDone, bytes]:
        number = self.process.run(items, payloads)
        async with asyncio.timeout(WAIT_S):
            done, payload = await self.answers.get()
        assert done.batch == number
        assert len(done.results) == len(items)
        return done, payload


@asynccontextmanager
async def running(options: EndsOptions | None) -> AsyncIterator[Ends]:
    ends = Ends()
    try:
        if options is not None:
            await ends.start(options)
        yield ends
    finally:
        await ends.process.close()
        assert ends.faults.empty()
        if ends.process.pid is not None:
            with pytest.raises(ProcessLookupError):
                os.kill(ends.process.pid, 0)


@pytest.fixture
def model(random_model: Callable[..., Path]) -> Path:
    return random_model("llama", n_layers=2)


@pytest.fixture
def options(model: Path, tmp_path: Path) -> EndsOptions:
    head, tail = cut(model, [0, 1, 2], tmp_path)
    return EndsOptions(
        model=str(model),
        head=str(head),
        tail=str(tail),
        n_slots=3,
        context=128,
        rows_max=64,
        threads=1,
        threads_large=1,
    )


def a_tail(slot: int, keep: int, rows: int) -> Tail:
    return Tail(slot, keep, True, F32, rows, sample=True, chain=True, last=False)


async def test_both_ends_go_on_from_a_parcel(options: EndsOptions) -> None:
    async with running(options) as ends:
        ends.process.open(1, GenerateRequest(PROMPT, 12, GREEDY, ignore_eos=True))
        _, window = await ends.run_all(Head(1, 0, True, F32, PROMPT))
        done, window = await ends.run_all(a_tail(1, 0, len(PROMPT)), payloads=(window,))
        expected = (await ends.run_all(a_tail(1, len(PROMPT), 1), payloads=(window,)))[0].results
        ends.process.close_slot(1, keep=True)
        ends.process.order_parcel(TakeOut(1, 5, len(PROMPT), b"label"))
        async with asyncio.timeout(WAIT_S):
            answer, parcel = await ends.parcels.get()
        assert answer == TakenOut(5)
        ends.process.open(2, GenerateRequest(PROMPT, 12, GREEDY, ignore_eos=True))
        ends.process.order_parcel(PutIn(2, 5, len(PROMPT), b"label"), parcel)
        async with asyncio.timeout(WAIT_S):
            assert await ends.parcels.get() == (GivenIn(5), b"")
        assert done.results[0].sampled is not None
        token = (done.results[0].sampled.token,)
        _, again = await ends.run_all(Head(2, len(PROMPT), True, F32, token))
        assert again == window
        found = (await ends.run_all(a_tail(2, len(PROMPT), 1), payloads=(again,)))[0].results
        assert found == expected


async def test_a_session_from_prompt_to_end(options: EndsOptions, model: Path) -> None:
    """The tokens of the whole model, each by one batch: tail, sampling, next head."""
    whole = WholeModel(model, n_slots=1, context=128, threads=1, rows_max=64)
    expected = whole.greedy([PROMPT], 12, exact=True, stop_at_end=False).tokens[0]
    whole.close()
    async with running(options) as ends:
        ends.process.open(1, GenerateRequest(PROMPT, 12, GREEDY, ignore_eos=True))
        _, window = await ends.run_all(Head(1, 0, True, F32, PROMPT))
        keep, rows, found = 0, len(PROMPT), []
        for _ in range(12):
            done, window = await ends.run_all(a_tail(1, keep, rows), payloads=(window,))
            assert done.results[0].sampled is not None
            assert done.engine_s > 0
            assert done.sampling_s > 0
            found.append(done.results[0].sampled.token)
            keep, rows = keep + rows, 1
        assert tuple(found) == expected
        ends.process.close_slot(1)
        last = await ends.run(a_tail(1, keep, 1), payloads=(window,))
        assert "slot 1 holds 0 positions" in last.results[0].problem


async def test_what_is_asked_of_sampling_arrives(options: EndsOptions) -> None:
    """Seed, bias and log-probabilities go through the messages whole."""
    params = SamplingParams(seed=2**63 + 5, logit_bias=((40, 1e9),), logprobs=2)
    async with running(options) as ends:
        ends.process.open(0, GenerateRequest(PROMPT, 3, params))
        _, window = await ends.run_all(Head(0, 0, False, F32, PROMPT))
        sampled = (await ends.run(a_tail(0, 0, 5), payloads=(window,))).results[0].sampled
    assert sampled is not None
    assert sampled.token == 40
    assert sampled.piece == bytes([40 - 3])
    assert len(sampled.top) == 2
    assert all(isinstance(one, TopLogprob) for one in sampled.top)


async def test_several_items_come_back_in_order(options: EndsOptions) -> None:
    size = row_bytes(F32, 64)
    async with running(options) as ends:
        bad = Head(1, 0, True, F32, (1, 99_999))
        done, payload = await ends.run_all(
            Head(2, 0, True, F32, PROMPT), bad, Head(0, 0, True, F32, PROMPT[:2])
        )
        assert [result.size for result in done.results] == [5 * size, 0, 2 * size]
        assert "99999 is outside the vocabulary" in done.results[1].problem
        assert len(payload) == 7 * size


async def test_loading_says_what_was_loaded(options: EndsOptions) -> None:
    async with running(None) as ends:
        loaded = await ends.start(options)
        assert loaded.device == PROCESSOR
        assert (loaded.n_embd, loaded.n_vocab) == (64, N_VOCAB)
        assert loaded.build == ENGINE_BUILD
        assert loaded.load_s > 0
        assert any(name.endswith("rlimit_core") for name in loaded.isolation)


async def test_a_killed_process_is_reported_once(options: EndsOptions) -> None:
    async with running(options) as ends:
        assert ends.process.pid is not None
        os.kill(ends.process.pid, signal.SIGKILL)
        async with asyncio.timeout(WAIT_S):
            fault = await ends.faults.get()
        assert "ends process was killed by signal 9" in fault.problem
        ends.process.open(0, GenerateRequest(PROMPT, 3, GREEDY))
        ends.process.close_slot(0)


@pytest.mark.parametrize("field", ["model", "head", "tail"])
async def test_a_file_that_is_no_model_fails_the_start(
    options: EndsOptions, tmp_path: Path, field: str
) -> None:
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"no model" * 100)
    async with running(None) as ends:
        with pytest.raises(EngineFault) as caught:
            await ends.start(msgspec.structs.replace(options, **{field: str(junk)}))
        assert caught.value.hint


async def test_ends_of_different_models_fail_the_start(
    options: EndsOptions, random_model: Callable[..., Path], tmp_path: Path
) -> None:
    """A head of another width would be fed rows of the wrong length."""
    other = cut(random_model("llama", n_layers=2, n_embd=128), [0, 1, 2], tmp_path)
    for field, shard in (("head", other[0]), ("tail", other[1])):
        async with running(None) as ends:
            with pytest.raises(EngineFault, match="another width"):
                await ends.start(msgspec.structs.replace(options, **{field: str(shard)}))


async def test_a_gpu_that_is_not_there(options: EndsOptions) -> None:
    async with running(None) as ends:
        with pytest.raises(EngineFault, match="does not find the device CUDA99"):
            await ends.start(options, Device("CUDA99", "", GPU, 1 << 40, 1 << 40))
