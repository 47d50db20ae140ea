"""Who computes what in the next rings: as planned by what was measured, or equal shares.

A plan needs the times of the ends and of every node that could have a part. While
one of them is missing nodes get equal shares, those with a place first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atoll.domain.errors import AtollError, RingDown
from atoll.domain.ids import NodeId
from atoll.domain.measure import WindowTime
from atoll.gateway.options import RingOptions
from atoll.gateway.shard_book import ShardBook
from atoll.gateway.wire_choice import costs_of
from atoll.members.member import Member
from atoll.model.manifest import Manifest, ShardEntry
from atoll.plan.equal import equal_cut
from atoll.plan.fleet import Demand, Fleet, Gateway, LinkEntry, Machine, ModelCosts
from atoll.plan.predict import Placed
from atoll.plan.replicas import RingsPlan, plan_rings, share
from atoll.plan.report import PlanReport, rings_told


@dataclass(frozen=True, slots=True)
class Cast:
    """Members in ring order with their shards; `report` is the plan behind it, if there is one."""

    members: tuple[Member, ...]
    entries: tuple[ShardEntry, ...]
    report: PlanReport | None = None

    @property
    def key(self) -> tuple[tuple[NodeId, int, int], ...]:
        """What tells it from others: who has which layers."""
        pairs = zip(self.members, self.entries, strict=True)
        return tuple((member.link.peer, entry.first, entry.last) for member, entry in pairs)


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
        self._demand = Demand(
            streams=options.plan_streams,
            context=options.context,
            chunk_rows=min(options.chunk_rows, options.rows_max),
            slots=options.streams,
            chunk_auto=options.chunk_auto,
            hold_s=options.chunk_ms / 1e3,
        )

    @property
    def manifest(self) -> Manifest:
        """The model."""
        return self._manifest

    async def cast(
        self, free: Sequence[Member], times: Times | None, *, rings_max: int, fewer: bool = False
    ) -> tuple[Cast, ...]:
        """The next rings, of these members.

        Args:
            free: Who has no part in a ring; for equal shares in the order of their use.
            times: What was measured; None where nothing was.
            rings_max: Most rings.
            fewer: A ring may have fewer nodes than places, if there are no more.

        Raises:
            AtollError: No ring can be made of them.
        """
        candidates = [member for member in free if not member.resting]
        if self._options.plan == "auto" and times is not None:
            missing = [m.name for m in candidates if m.name not in times.machines]
            if not missing:
                return await self._planned(candidates, times, rings_max)
            self._tell(f"equal shares for now: {', '.join(missing)} not measured")
            rings_max = 1
        return await self._equal(free, rings_max, fewer=fewer)

    async def better(
        self,
        standing: Sequence[Cast],
        everybody: Sequence[Member],
        times: Times | None,
        *,
        rings_max: int,
    ) -> tuple[float, tuple[Cast, ...]]:
        """The best rings there could be, and their tokens per second ÷ those of the standing ones.

        Both are foretold by what is known now; the factor is 0 where that is not enough
        to plan by, or where rings are not planned.

        Raises:
            AtollError: No ring can be made of them.
        """
        now = self._foretold(standing, everybody, times)
        if not now or times is None:
            return 0.0, ()
        candidates = [member for member in everybody if not member.resting]
        fleet, costs, demand = self._fleet(candidates, times), self._costs(candidates), self._demand
        best = await asyncio.to_thread(plan_rings, fleet, costs, demand, rings_max=rings_max)
        return best.tokens_per_s / now, await self._casts(best, candidates)

    def gain(
        self,
        casts: Sequence[Cast],
        standing: Sequence[Cast],
        everybody: Sequence[Member],
        times: Times | None,
    ) -> float:
        """Tokens per second of some rings ÷ those of the standing ones, as in `better`."""
        now = self._foretold(standing, everybody, times)
        return self._foretold(casts, everybody, times) / now if now else 0.0

    def _foretold(
        self, casts: Sequence[Cast], everybody: Sequence[Member], times: Times | None
    ) -> float:
        """Tokens per second of rings side by side; 0 where that cannot be told."""
        candidates = [member for member in everybody if not member.resting]
        if self._options.plan != "auto" or times is None or not casts:
            return 0.0
        if not {member.name for member in candidates} <= set(times.machines):
            return 0.0
        # Who left and came back is another member.
        places = {id(member): place for place, member in enumerate(candidates)}
        if any(id(member) not in places for cast in casts for member in cast.members):
            return 0.0
        ends = self._options.ends
        placements = [
            [
                Placed(places[id(member)], entry.first - ends, entry.last - ends)
                for member, entry in zip(cast.members, cast.entries, strict=True)
            ]
            for cast in casts
        ]
        fleet = self._fleet(candidates, times)
        return share(fleet, self._costs(candidates), self._demand, placements).tokens_per_s

    def _costs(self, candidates: Sequence[Member]) -> ModelCosts:
        joins = [member.join for member in candidates]
        return costs_of(self._manifest, self._boundaries, self._options, joins)

    def _fleet(self, candidates: Sequence[Member], times: Times) -> Fleet:
        gateway = Gateway(times.ends_s, host=self._host)
        # Who plays in other rings is no part of it, nor are the ways there.
        inside = {gateway.name, *(member.name for member in candidates)}
        return Fleet(
            gateway=gateway,
            machines=tuple(times.machines[member.name] for member in candidates),
            links=tuple(link for link in times.links if {link.source, link.target} <= inside),
        )

    async def _planned(
        self, candidates: Sequence[Member], times: Times, rings_max: int
    ) -> tuple[Cast, ...]:
        fleet = self._fleet(candidates, times)
        made = await asyncio.to_thread(
            plan_rings, fleet, self._costs(candidates), self._demand, rings_max=rings_max
        )
        return await self._casts(made, candidates)

    async def _casts(self, plan: RingsPlan, candidates: Sequence[Member]) -> tuple[Cast, ...]:
        by_name = {member.name: member for member in candidates}
        costs, ends = self._costs(candidates), self._options.ends
        reports = await asyncio.to_thread(rings_told, plan, costs, self._demand, ends=ends)
        found = []
        for report in reports.rings:
            entries = await self._book.entries([(s.first, s.last) for s in report.stages])
            members = tuple(by_name[stage.name] for stage in report.stages)
            found.append(Cast(members, entries, report))
        return tuple(found)

    async def _equal(
        self, free: Sequence[Member], rings_max: int, *, fewer: bool
    ) -> tuple[Cast, ...]:
        n_nodes = min(self._options.nodes, len(free)) if fewer else self._options.nodes
        if not n_nodes:
            raise RingDown("no node is left")
        groups = [free[at : at + n_nodes] for at in range(0, len(free), n_nodes)]
        whole = [group for group in groups if len(group) == n_nodes]
        return tuple([await self._equal_ring(group) for group in whole[:rings_max]])

    async def _equal_ring(self, placed: Sequence[Member]) -> Cast:
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
