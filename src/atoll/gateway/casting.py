"""Who computes what in the next ring: as planned by what was measured, or equal shares.

A plan needs the times of the ends and of every node that could have a part. While
one of them is missing the nodes with a place get equal shares, in their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atoll.domain.errors import AtollError
from atoll.domain.measure import WindowTime
from atoll.gateway.options import RingOptions
from atoll.gateway.shard_book import ShardBook
from atoll.members.member import Member
from atoll.model.manifest import Manifest, ShardEntry
from atoll.plan.equal import equal_cut
from atoll.plan.fleet import Demand, Fleet, Gateway, LinkEntry, Machine
from atoll.plan.planner import plan_ring
from atoll.plan.predict import Placed, Predictor
from atoll.plan.report import PlanReport, model_costs, report


@dataclass(frozen=True, slots=True)
class Cast:
    """Members in ring order with their shards; `report` is the plan behind it, if there is one."""

    members: tuple[Member, ...]
    entries: tuple[ShardEntry, ...]
    report: PlanReport | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """What was measured: the gateway's ends, nodes by their names, and links."""

    ends_s: tuple[WindowTime, ...]
    machines: dict[str, Machine]
    links: tuple[LinkEntry, ...] = ()


class Caster:
    """Casts rings of one model.

    Args:
        manifest: The model.
        boundaries: Where it may be cut.
        options: The ring's shape, and how it is to be planned.
        book: The shards' hashes.
        host: This machine, as nodes name theirs.
        tell: Takes one line at a time for the operator to read.
    """

    def __init__(
        self,
        manifest: Manifest,
        boundaries: Sequence[int],
        options: RingOptions,
        book: ShardBook,
        *,
        host: str,
        tell: Callable[[str], None],
    ) -> None:
        self._manifest = manifest
        self._boundaries = boundaries
        self._options = options
        self._book = book
        self._host = host
        self._tell = tell
        self._costs = model_costs(manifest, boundaries, options.ends)
        self._demand = Demand(
            streams=options.plan_streams,
            context=options.context,
            chunk_rows=options.chunk_rows,
            slots=options.streams,
        )

    async def cast(
        self, placed: Sequence[Member], everybody: Sequence[Member], times: Times | None
    ) -> Cast:
        """The next ring.

        Args:
            placed: Who has a place, in their order.
            everybody: Who is in.
            times: What was measured; None where nothing was.

        Raises:
            AtollError: No ring can be made of them.
        """
        candidates = [member for member in everybody if not member.resting]
        if self._options.plan == "auto" and times is not None:
            missing = [m.name for m in candidates if m.name not in times.machines]
            if not missing:
                return await self._planned(candidates, times)
            self._tell(f"equal shares for now: {', '.join(missing)} not measured")
        return await self._equal(placed)

    async def gain_over(
        self, current: Cast, everybody: Sequence[Member], times: Times | None
    ) -> float:
        """Tokens per second of the best ring there could be ÷ those of the current one.

        Both are foretold by what is known now; 0 where that is not enough to plan by, or
        where rings are not planned.

        Raises:
            AtollError: No ring can be made of them.
        """
        candidates = [member for member in everybody if not member.resting]
        names = [member.name for member in candidates]
        players = [member.name for member in current.members]
        if self._options.plan != "auto" or times is None:
            return 0.0
        if not set(names) <= set(times.machines) or not set(players) <= set(names):
            return 0.0
        fleet, costs, demand = self._fleet(candidates, times), self._costs, self._demand
        ends = self._options.ends
        placement = [
            Placed(names.index(name), entry.first - ends, entry.last - ends)
            for name, entry in zip(players, current.entries, strict=True)
        ]
        now = Predictor(fleet, costs, demand).predict(placement)
        best = await asyncio.to_thread(plan_ring, fleet, costs, demand)
        return best.prediction.tokens_per_s / now.tokens_per_s

    def _fleet(self, candidates: Sequence[Member], times: Times) -> Fleet:
        return Fleet(
            gateway=Gateway(times.ends_s, host=self._host),
            machines=tuple(times.machines[member.name] for member in candidates),
            links=times.links,
        )

    async def _planned(self, candidates: Sequence[Member], times: Times) -> Cast:
        fleet, ends = self._fleet(candidates, times), self._options.ends
        made = await asyncio.to_thread(report, fleet, self._costs, self._demand, ends=ends)
        by_name = {member.name: member for member in candidates}
        entries = await self._book.entries([(s.first, s.last) for s in made.stages])
        return Cast(tuple(by_name[s.name] for s in made.stages), entries, made)

    async def _equal(self, placed: Sequence[Member]) -> Cast:
        manifest, ends = self._manifest, self._options.ends
        ranges = equal_cut(manifest.n_layers, ends, len(placed), self._boundaries)
        entries = await self._book.entries(ranges)
        cells = self._options.streams * self._options.context
        for member, entry in zip(placed, entries, strict=True):
            cache = sum(manifest.layer_kv_bytes[entry.first : entry.last]) * cells
            if member.join.memory_free_bytes < entry.size_bytes + cache:
                raise AtollError(
                    f"{member.name} has too little memory for an equal share",
                    hint="serve with more nodes, fewer streams or a shorter context",
                )
        return Cast(tuple(placed), entries)
