"""Engine processes of simulated machines, over the model of hashes.

They compute at once and in order, and answer after a while, as real ones do; a fault
kills them. What travels has the length that a real model's rows would have.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atoll.domain.bits import Bits
from atoll.domain.errors import EngineFault
from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId, Slot
from atoll.domain.wire import row_parts
from atoll.engine.ends_client import EndsProcess
from atoll.engine.ends_messages import EndsLoaded, EndsOptions, Head, ItemResult, ItemsDone, Tail
from atoll.engine.parcel_messages import GivenIn, ParcelAnswer, ParcelOrder, TakenOut, TakeOut
from atoll.engine.stage_client import StageProcess
from atoll.engine.stage_messages import Computed, Item, Loaded, StageOptions
from atoll.ring import coordinator_messages as ring
from atoll.sim.fake_ends import FakeEnds
from atoll.sim.fake_model import FakeShard, ModelMisuse, pack, unpack
from atoll.world.machine import Machine

LOAD_S_MAX = 10.0
"""A ring waits for who loads for so much longer than its clients have time."""
ROW_BYTES = 8
BITS = Bits("sim", together=True)
"""Of the model of hashes; a row on the wire has more, which stay empty."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long engines take, seconds: to load, for a call, and for each row of it."""

    load_s: float
    call_s: float
    row_s: float


class Process:
    """What both kinds of process share: the time they take, and their end."""

    def __init__(
        self,
        machine: Machine,
        rng: random.Random,
        pace: Pace,
        on_exit: Callable[[EngineFault], None],
    ) -> None:
        self._machine, self._rng, self._pace = machine, rng, pace
        self._on_exit = on_exit
        self._starting: asyncio.Future[None] | None = None
        self._free_s = 0.0
        self.is_over = False

    async def load(self, title: str) -> None:
        """Take the time that loading takes.

        Raises:
            EngineFault: It was killed meanwhile.
        """
        loop = asyncio.get_running_loop()
        self._machine.engines.append(self.kill)
        self._title = title
        self._starting = loop.create_future()
        loading = loop.call_later(min(LOAD_S_MAX, self._lasts_s(self._pace.load_s)), self._loaded)
        try:
            await self._starting
        finally:
            loading.cancel()

    def later(self, rows: int, answer: Callable[[], None]) -> None:
        """Answer once all that was asked before is done, and this."""
        loop = asyncio.get_running_loop()
        took_s = self._lasts_s(self._pace.call_s + rows * self._pace.row_s)
        self._free_s = max(self._free_s, loop.time()) + took_s
        loop.call_at(self._free_s, self._answer, answer)

    def kill(self, reason: str) -> None:
        """It ends by itself."""
        if self.is_over:
            return
        self.is_over = True
        fault = EngineFault(f"{self._title} {reason}")
        if self._starting is not None and not self._starting.done():
            self._starting.set_exception(fault)
        else:
            asyncio.get_running_loop().call_soon(
                self._on_exit, fault, context=self._machine.context
            )

    def close(self) -> None:
        """It is ended."""
        if self.kill in self._machine.engines:
            self._machine.engines.remove(self.kill)
        self.is_over = True
        if self._starting is not None and not self._starting.done():
            self._starting.set_exception(EngineFault("it was closed while it started"))

    def _loaded(self) -> None:
        if self._starting is not None and not self._starting.done():
            self._starting.set_result(None)

    def _answer(self, answer: Callable[[], None]) -> None:
        if not self.is_over:
            answer()

    def _lasts_s(self, mean_s: float) -> float:
        return mean_s * (0.5 + 0.5 * self._rng.expovariate(1.0)) * self._machine.slow


def widened(rows: list[int], encoding: str, n_embd: int) -> bytes:
    """Rows as they travel: the values of all, then what scales them."""
    values, scales = row_parts(encoding, n_embd)
    packed, filler = pack(rows), bytes(values - ROW_BYTES)
    parts = [packed[i : i + ROW_BYTES] + filler for i in range(0, len(packed), ROW_BYTES)]
    return b"".join(parts) + bytes(scales * len(rows))


def narrowed(payload: bytes, rows: int, encoding: str, n_embd: int) -> list[int]:
    """What `widened` was given."""
    values, scales = row_parts(encoding, n_embd)
    if len(payload) != rows * (values + scales):
        raise ModelMisuse(f"{len(payload)} bytes are not {rows} rows of {values + scales}")
    return unpack(b"".join(payload[i * values : i * values + ROW_BYTES] for i in range(rows)), rows)


class SimStage(StageProcess):
    """A stage process.

    Args:
        process: Its time and its end.
        shard: Its layers.
        n_embd: Width of a row.
    """

    def __init__(
        self,
        process: Process,
        shard: FakeShard,
        n_embd: int,
        *,
        on_computed: Callable[[Computed, bytes], None],
        on_parcel: Callable[[ParcelAnswer, bytes], None],
    ) -> None:
        self._process, self._shard, self._n_embd = process, shard, n_embd
        self._computed, self._parcel = on_computed, on_parcel

    @property
    def pid(self) -> int | None:
        """It has none."""
        return None

    async def start(self, options: StageOptions, **_how: object) -> Loaded:
        """Load the shard, whose layers its file's name says."""
        first, last = map(int, options.path.split("-"))
        self._shard = FakeShard(first, last)
        await self._process.load("stage process")
        return Loaded("sim", self._n_embd, last - first, 0.1, (), "sim", BITS)

    def compute(self, batch: int, items: tuple[Item, ...], payloads: Sequence[bytes]) -> None:
        """Run the layers over a batch."""
        outputs = [
            widened(
                self._shard.run(
                    Slot(item.slot),
                    item.keep,
                    narrowed(payload, item.rows, item.encoding, self._n_embd),
                ),
                item.encoding,
                self._n_embd,
            )
            for item, payload in zip(items, payloads, strict=True)
        ]
        sizes = tuple(len(output) for output in outputs)
        done = Computed(batch, ("",) * len(items), sizes, 0.001, 0.001)
        rows = sum(item.rows for item in items)
        self._process.later(rows, lambda: self._computed(done, b"".join(outputs)))

    def drop(self, slot: int) -> None:
        """Clear a slot."""
        self._shard.drop(Slot(slot))

    def order_parcel(self, order: ParcelOrder, parcel: bytes = b"") -> None:
        """Take a parcel out, or put one in."""
        answer, data = parcel_answer(order, parcel, self._shard)
        self._process.later(0, lambda: self._parcel(answer, data))

    async def close(self) -> None:
        """End it."""
        self._process.close()


def parcel_answer(
    order: ParcelOrder, parcel: bytes, *shards: FakeShard
) -> tuple[ParcelAnswer, bytes]:
    """Carry an order about a parcel out on the layers of one process."""
    slot, head = Slot(order.slot), order.label + b"|"
    if isinstance(order, TakeOut):
        taken = [shard.take(slot, order.tokens) for shard in shards]
        parts = [part for part in taken if part is not None]
        if len(parts) < len(shards):
            return TakenOut(order.parcel, "the slot holds less"), b""
        sizes = b"".join(len(part).to_bytes(4, "big") for part in parts)
        return TakenOut(order.parcel), head + sizes + b"".join(parts)
    for shard in shards:
        shard.drop(slot)
    if not parcel.startswith(head):
        return GivenIn(order.parcel, "the parcel is another's"), b""
    sizes_at = len(head)
    at = sizes_at + 4 * len(shards)
    for i, shard in enumerate(shards):
        size = int.from_bytes(parcel[sizes_at + 4 * i : sizes_at + 4 * i + 4], "big")
        shard.put(slot, order.tokens, parcel[at : at + size])
        at += size
    return GivenIn(order.parcel), b""


class SimEnds(EndsProcess):
    """An ends process.

    Args:
        process: Its time and its end.
        cuts: Layers before the first stage, where the last layers begin, and all.
        sizes: Width of a row, and tokens there are.
    """

    def __init__(
        self,
        process: Process,
        cuts: tuple[int, int, int],
        sizes: tuple[int, int],
        *,
        on_done: Callable[[ItemsDone, bytes], None],
        on_parcel: Callable[[ParcelAnswer, bytes], None] | None,
    ) -> None:
        self._process = process
        self._n_embd, self._n_vocab = sizes
        self._shards = (FakeShard(0, cuts[0]), FakeShard(cuts[1], cuts[2]))
        self._ends = FakeEnds(*self._shards)
        self._done, self._parcel = on_done, on_parcel
        self._number = 0
        self._n_slots = 0
        self._open: set[int] = set()

    @property
    def pid(self) -> int | None:
        """It has none."""
        return None

    async def start(self, options: EndsOptions, **_how: object) -> EndsLoaded:
        """Load both ends."""
        self._n_slots = options.n_slots
        await self._process.load("ends process")
        return EndsLoaded("sim", self._n_embd, self._n_vocab, 0.1, (), "sim", (BITS, BITS))

    def open(self, slot: int, request: GenerateRequest) -> None:
        """Set up the sampler of a session, in place of one that a ring left when it broke."""
        assert slot < self._n_slots, f"slot {slot} of {self._n_slots}"
        if slot in self._open:
            self.close_slot(slot)
        self._open.add(slot)
        self._ends.open(ring.OpenEnds(SessionId(slot), Slot(slot), request))

    def close_slot(self, slot: int, *, keep: bool = False) -> None:
        """Forget the sampler of a session."""
        self._open.discard(slot)
        self._ends.close(ring.CloseEnds(SessionId(slot), Slot(slot), keep))

    def run(self, items: tuple[Head | Tail, ...], payloads: Sequence[bytes]) -> int:
        """Compute a batch."""
        self._number += 1
        waiting = list(payloads)
        asked = tuple(self._item(item, waiting) for item in items)
        # Only who times the ends asks for a head and a tail at once, heads first.
        heads = tuple(item for item in asked if isinstance(item, ring.HeadItem))
        tails = tuple(item for item in asked if isinstance(item, ring.TailItem))
        assert asked == heads + tails, "tails come before heads"
        results = [
            result
            for part in (heads, tails)
            if part
            for result in self._ends.run(ring.RunEnds(part), lambda: False)
        ]
        outputs: list[bytes] = []
        answers: list[ItemResult] = []
        for item, result in zip(items, results, strict=True):
            output = b""
            if isinstance(result, ring.HeadDone | ring.TailDone) and result.payload:
                rows = unpack(result.payload, len(result.payload) // ROW_BYTES)
                output = widened(rows, item.encoding, self._n_embd)
            outputs.append(output)
            tail = result if isinstance(result, ring.TailDone) else ring.TailDone()
            answers.append(ItemResult("", tail.sampled, len(output), tail.accepted))
        done = ItemsDone(self._number, tuple(answers), 0.001, 0.0)
        rows_in_all = sum(len(i.tokens) if isinstance(i, Head) else i.rows for i in items)
        self._process.later(rows_in_all, lambda: self._done(done, b"".join(outputs)))
        return self._number

    def order_parcel(self, order: ParcelOrder, parcel: bytes = b"") -> None:
        """Take a parcel out, or put one in."""
        answer, data = parcel_answer(order, parcel, *self._shards)
        on_parcel = self._parcel
        assert on_parcel is not None, "nobody takes parcels"
        self._process.later(0, lambda: on_parcel(answer, data))

    async def close(self) -> None:
        """End it."""
        self._process.close()

    def _item(self, item: Head | Tail, waiting: list[bytes]) -> ring.EndsItem:
        session, slot = SessionId(item.slot), Slot(item.slot)
        if isinstance(item, Head):
            return ring.HeadItem(session, slot, item.keep, item.tokens, item.exact, item.encoding)
        rows = narrowed(waiting.pop(0), item.rows, item.encoding, self._n_embd)
        return ring.TailItem(
            *(session, slot, item.keep, item.rows, pack(rows), item.exact, item.encoding),
            *(item.sample, item.chain, item.last, item.checked, item.guesses),
        )
