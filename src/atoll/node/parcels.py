"""Parcels of one engine process: made by it, kept in tiers, and brought back.

The engine answers in the order it was asked; keepers take their time beside it, each
with a bound. Whatever goes wrong, a parcel is lost and its session computed again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from atoll.domain.control import Plan
from atoll.domain.ids import SessionId, Slot
from atoll.engine.parcel_messages import ParcelAnswer, ParcelOrder, PutIn, TakenOut, TakeOut
from atoll.node.keeping import Keeper

log = logging.getLogger(__name__)

KEEP_S = 60.0
"""How long a keeper may take to put a parcel away: 192 MiB at 3 MB/s."""
BRING_S = 8.0
"""How long one may take to bring it back: 192 MiB at 25 MB/s. A client waits for that at one
stage after the other, and a ring whose session stands still is given up (`stall_s`)."""
WAITING_MAX = 256
"""Parcels that may wait to be put away or brought."""
WAITING_BYTES_MAX = 512 * 1024**2
"""What those to be put away may take meanwhile."""

Brought = Callable[[bytes | None], None]


@dataclass(slots=True)
class _Taking:
    """A parcel that the engine has yet to make."""

    began_s: float = 0.0
    is_wanted: bool = True
    waiting: list[Brought] = field(default_factory=list)


def parcel_label(plan: Plan, part: str) -> str:
    """What all parcels of one engine process are bound to: what it has of which model, and when."""
    return f"{plan.model}|{part}|{plan.epoch.incarnation}.{plan.epoch.counter}"


class Parcels:
    """The parcels of one engine process.

    Args:
        keeper: Where they are kept.
        order: Tells the engine process of one.
        label: What they are bound to beside their numbers: the model, the layers, the epoch.
    """

    def __init__(
        self, keeper: Keeper, order: Callable[[ParcelOrder, bytes], None], label: str
    ) -> None:
        self._keeper, self._order, self._label = keeper, order, label
        self._taking: dict[SessionId, _Taking] = {}
        # In the order in which the engine was asked, and answers.
        self._loading: deque[tuple[SessionId, Callable[[bool], None]]] = deque()
        self._unkept: dict[SessionId, bytes] = {}
        self._unkept_bytes = 0
        self._moved_bytes, self._moved_s = 0, 0.0
        self._changes: asyncio.Queue[tuple[SessionId, bytes | None]] = asyncio.Queue(WAITING_MAX)
        self._wanted: asyncio.Queue[tuple[SessionId, Brought]] = asyncio.Queue(WAITING_MAX)

    def take_out(self, slot: Slot, parcel: SessionId, tokens: int) -> None:
        """Have the engine make a parcel of a slot, and keep it."""
        self._taking[parcel] = _Taking(time.perf_counter())
        self._order(TakeOut(slot, parcel, tokens, self._bound(parcel)), b"")

    def bring(self, parcel: SessionId, then: Brought) -> None:
        """Bring a parcel back; `then` is called with it, or with None if it is lost."""
        if parcel in self._taking:
            self._taking[parcel].waiting.append(then)
        elif self._wanted.full():
            then(None)
        else:
            self._wanted.put_nowait((parcel, then))

    def put_in(
        self,
        slot: Slot,
        parcel: SessionId,
        tokens: int,
        data: bytes,
        then: Callable[[bool], None],
    ) -> None:
        """Have the engine load a parcel; `then` is told whether it did."""
        self._loading.append((parcel, then))
        self._order(PutIn(slot, parcel, tokens, self._bound(parcel)), data)

    def drop(self, parcel: SessionId) -> None:
        """Nobody wants a parcel any more."""
        if parcel in self._taking:
            self._taking[parcel].is_wanted = False
        else:
            self._change(parcel, None)

    def answered(self, answer: ParcelAnswer, data: bytes) -> None:
        """The engine has carried an order out."""
        parcel = SessionId(answer.parcel)
        if answer.problem:
            log.warning("parcels.lost problem=%s", answer.problem)
        if not isinstance(answer, TakenOut):
            # What was asked in an epoch before has nobody who waits for it.
            if self._loading and self._loading[0][0] == parcel:
                self._loading.popleft()[1](not answer.problem)
            return
        taking = self._taking.pop(parcel, _Taking(is_wanted=False))
        kept = data if not answer.problem else None
        if kept is not None and taking.is_wanted:
            self._change(parcel, kept)
            self._moved_bytes += len(kept)
            self._moved_s += time.perf_counter() - taking.began_s
        for waiting in taking.waiting:
            waiting(kept)

    @property
    def bytes_per_s(self) -> float:
        """How fast parcels went to their keepers and came back so far; 0: none did."""
        return self._moved_bytes / self._moved_s if self._moved_s else 0.0

    async def run(self) -> None:
        """Put parcels away and bring them until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep(), name="keep-parcels")
            tasks.create_task(self._bring(), name="bring-parcels")

    def _bound(self, parcel: SessionId) -> bytes:
        return f"{self._label}|{parcel}".encode()

    def _name(self, parcel: SessionId) -> str:
        """What keepers know a parcel by: it tells them nothing."""
        return hashlib.sha256(self._bound(parcel)).hexdigest()

    def _change(self, parcel: SessionId, data: bytes | None) -> None:
        full = self._unkept_bytes + len(data or b"") > WAITING_BYTES_MAX
        if full or self._changes.full():
            log.warning("parcels.too_many_waiting")
            return
        if data is not None:
            self._unkept[parcel] = data
            self._unkept_bytes += len(data)
        self._changes.put_nowait((parcel, data))

    async def _keep(self) -> None:
        while True:
            parcel, data = await self._changes.get()
            began_s = time.perf_counter()
            try:
                async with asyncio.timeout(KEEP_S):
                    if data is None:
                        await self._keeper.drop(self._name(parcel))
                    elif not await self._keeper.put(self._name(parcel), data):
                        log.info("parcels.no_room bytes=%d", len(data))
            except TimeoutError:
                log.warning("parcels.keeper_too_slow")
            if data is not None:
                self._unkept_bytes -= len(data)
                self._unkept.pop(parcel, None)
                self._moved_s += time.perf_counter() - began_s

    async def _bring(self) -> None:
        while True:
            parcel, then = await self._wanted.get()
            found = self._unkept.get(parcel)
            if found is None:
                try:
                    async with asyncio.timeout(BRING_S):
                        found = await self._keeper.get(self._name(parcel))
                except TimeoutError:
                    log.warning("parcels.keeper_too_slow")
            then(found)
