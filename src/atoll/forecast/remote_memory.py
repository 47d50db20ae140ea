"""Caches that lie in slower memory beside an accelerator's own, and are read from there.

    more = time to read what does not fit, from the fastest tiers that hold it

each step, as every stream looks back at all of its caches. It is a bound: caches are read as
fast as the tier's link allows, and nothing else waits for it. No system that decodes so has
published what it does.

Source: tiers, prima.cpp, arXiv:2504.08791, section 3.2 (of weights); caches in remote memory,
Qin et al., Mooncake, FAST 2025, keep beginnings there and do not decode from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atoll.forecast.fleet_file import CacheTier
from atoll.forecast.spread import Tier, tiers_s

NOTE = "caches beside the accelerators' memory are read at their links' rate: a bound"


@dataclass(frozen=True, slots=True)
class RemoteCaches:
    """Tiers beside `free` bytes of an accelerator's own memory; a stream's caches are `cached`."""

    tiers: tuple[Tier, ...]
    free: float
    cached: float

    @property
    def room(self) -> float:
        """Bytes of caches that there is memory for."""
        return max(0.0, self.free) + sum(tier.bytes for tier in self.tiers)

    def more_s(self, streams: int) -> float:
        """Seconds that a step takes longer with so many streams, as far as there is room."""
        beyond = min(streams * self.cached, self.room) - max(0.0, self.free)
        return tiers_s(beyond, self.tiers) if beyond > 0 else 0.0


def remote_caches(tiers: Sequence[CacheTier], free: float, cached: float) -> RemoteCaches:
    """Of a part's tiers: bytes and bytes a second of one system."""
    return RemoteCaches(tuple(Tier(tier.bytes, tier.rate) for tier in tiers), free, cached)
