"""Parcels at the gateway: those of the ends, and whether conversations at rest become any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from atoll.domain.control import Plan
from atoll.domain.ids import SessionId
from atoll.engine.ends_client import EndsProcess
from atoll.engine.parcel_messages import ParcelAnswer
from atoll.engine.parcels import PARCEL_BYTES_MAX
from atoll.gateway.options import RingOptions
from atoll.members.member import Member
from atoll.model.manifest import Manifest, kv_bytes
from atoll.node.keeping import Keeper, Keeping, open_tiers
from atoll.node.parcels import Parcels, parcel_label
from atoll.ring.coordinator_messages import CoordinatorEvent
from atoll.ring.parked import REST_TICKS
from atoll.ring.parking import Parking, ParkingRates
from atoll.ring.parking_messages import (
    DropEndsParcel,
    EndsLoadedParcel,
    LoadEnds,
    ParkEnds,
    ParkingOfEnds,
)

TIER_BYTES_S = 300e6
PREFILL_TOKENS_S = 200.0
"""Until they are measured: encrypting, copying and a hop by Ethernet; a model of eight billion
parameters on a few processors."""
WEIGHT = 0.3
"""How much the last prompt counts in the measured rate."""
PREFILL_TOKENS_MIN = 32
"""Shorter prompts tell of the first token's other costs instead."""


def parking_of(
    manifest: Manifest,
    plan: Plan,
    options: RingOptions,
    members: Sequence[Member],
    lent_bytes: int = 0,
) -> Parking | None:
    """What may be parked on a ring; None where it has no memory for that, or old nodes.

    `lent_bytes` is what other nodes lend to each of its nodes, and to the gateway.
    """
    ends = options.ends
    layers = [(stage.first, stage.last) for stage in plan.stages]
    each = [kv_bytes(manifest, first, last, 1) for first, last in layers]
    at_ends = kv_bytes(manifest, 0, ends, 1)
    at_ends += kv_bytes(manifest, manifest.n_layers - ends, manifest.n_layers, 1)
    room = [member.join.keeps_bytes for member in members]
    kept = shared_out(options.keeping, options.rings)
    room_at_ends = kept.total_bytes
    if not options.reuse or min(*room, room_at_ends) <= 0:
        return None
    room = [r + lent_bytes * m.join.borrows_memory for r, m in zip(room, members, strict=True)]
    room_at_ends += lent_bytes // options.rings
    rooms = zip((*room, room_at_ends), (*each, at_ends), strict=True)
    return Parking(
        rates=ParkingRates(
            bytes_per_token=sum(each) + at_ends,
            tier_bytes_s=TIER_BYTES_S,
            prefill_tokens_s=PREFILL_TOKENS_S,
        ),
        held_max=min(there // size for there, size in rooms if size),
        tokens_max=PARCEL_BYTES_MAX // max(*each, at_ends, 1),
    )


def shared_out(keeping: Keeping, rings: int) -> Keeping:
    """What each of several rings may take."""
    return Keeping(keeping.ram_bytes // rings, keeping.disk_bytes // rings, keeping.folder)


@dataclass(slots=True)
class _Prompt:
    """A prompt that has yet to be computed."""

    tokens: int
    cached: int = 0
    began_s: float = 0.0


class EndsParking:
    """The ends' parcels in one epoch, and what moving and computing were seen to take.

    Args:
        plan: The epoch's.
        options: Their bounds.
        number: The ring's.
        ends: Makes and loads them; `answered` must be given its answers.
        further: What keeps parcels beyond this machine's memory and disk.
    """

    def __init__(
        self,
        plan: Plan,
        options: RingOptions,
        number: int,
        ends: EndsProcess,
        *further: Keeper,
    ) -> None:
        name = f"{number}-{plan.epoch.incarnation}-{plan.epoch.counter}"
        self._kept = open_tiers(shared_out(options.keeping, options.rings), name, *further)
        self._parcels = Parcels(self._kept.tiers, ends.order_parcel, parcel_label(plan, "ends"))
        self._prompts: dict[SessionId, _Prompt] = {}
        self._prefill_tokens_s = 0.0

    @property
    def held_bytes(self) -> int:
        """Bytes of all parcels kept here."""
        return self._kept.tiers.held_bytes

    def answered(self, answer: ParcelAnswer, data: bytes) -> None:
        """The ends process has carried an order out."""
        self._parcels.answered(answer, data)

    def carry_out(self, effect: ParkingOfEnds, tell: Callable[[CoordinatorEvent], None]) -> None:
        """Do what the coordinator wants; `tell` it what became of that."""
        match effect:
            case ParkEnds(session, slot, tokens):
                self._parcels.take_out(slot, session, tokens)
            case DropEndsParcel(parcel):
                self._parcels.drop(parcel)
            case LoadEnds(session, slot, parcel, tokens):

                def loaded(is_loaded: bool) -> None:
                    tell(EndsLoadedParcel(session, is_loaded))

                def brought(data: bytes | None) -> None:
                    if data is None:
                        loaded(False)
                    else:
                        self._parcels.put_in(slot, parcel, tokens, data, loaded)

                self._parcels.bring(parcel, brought)

    async def run(self) -> None:
        """Put parcels away and bring them until cancelled."""
        await self._parcels.run()

    def close(self) -> None:
        """Forget them all."""
        self._kept.close()

    # What is measured

    def prompt_waits(self, session: SessionId, tokens: int) -> None:
        """A session was submitted with a prompt of so many tokens."""
        self._prompts[session] = _Prompt(tokens)

    def prompt_enters(self, session: SessionId, cached: int, now_s: float | None = None) -> None:
        """All of its prompt but what is cached is computed from now on."""
        prompt = self._prompts.get(session)
        if prompt is not None:
            prompt.cached = cached
            prompt.began_s = time.perf_counter() if now_s is None else now_s

    def prompt_over(
        self, session: SessionId, *, is_computed: bool, now_s: float | None = None
    ) -> int:
        """Its first token came, or never will; how much of it was cached."""
        prompt = self._prompts.pop(session, None)
        if prompt is None or not is_computed:
            return 0
        tokens = prompt.tokens - prompt.cached
        took_s = (time.perf_counter() if now_s is None else now_s) - prompt.began_s
        if tokens >= PREFILL_TOKENS_MIN and took_s > 0:
            rate, known = tokens / took_s, self._prefill_tokens_s
            self._prefill_tokens_s = known + WEIGHT * (rate - known) if known else rate
        return prompt.cached

    def rates(self, before: ParkingRates) -> ParkingRates:
        """What is known now of moving and computing."""
        return ParkingRates(
            bytes_per_token=before.bytes_per_token,
            tier_bytes_s=self._parcels.bytes_per_s or before.tier_bytes_s,
            prefill_tokens_s=self._prefill_tokens_s or before.prefill_tokens_s,
            lap_s=before.lap_s,
        )


async def age_resting(tick: Callable[[], None], rest_s: float) -> NoReturn:
    """Have what rests for so long leave its slot."""
    while True:
        await asyncio.sleep(rest_s / REST_TICKS)
        tick()
