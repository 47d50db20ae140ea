"""Caches of prompts' beginnings, kept for those that begin alike, in tiers of memory.

What leaves a tier for lack of room goes to the next; what is found in a slower one is copied
back at that one's rate. The first tier is what running streams leave of the accelerators' own
memory; others are a host's memory, or a memory pool that several systems reach.

Sources: prefix caching by blocks, Kwon et al., vLLM, SOSP 2023, section 4.4; tiers of host memory
and disks for caches, Qin et al., Mooncake, FAST 2025, section 4.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

BLOCK_TOKENS = 512
"""Tokens of a block, as Mooncake's traces have them."""


@dataclass(slots=True)
class Tier:
    """Memory for `blocks`; a block takes `block_s` seconds to be copied from it."""

    blocks: float
    block_s: float = 0.0
    kept: OrderedDict[int, None] = field(default_factory=OrderedDict)


class PrefixCache:
    """Blocks by their name, the longest unused first to go.

    Args:
        tiers: From the fastest on.
    """

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self.tiers = list(tiers)

    def find(self, blocks: Sequence[int]) -> tuple[int, float]:
        """How many of a prompt's first blocks are kept, and seconds to copy those that are not in
        the first tier. They count as used, and are in the first tier then.
        """
        found, seconds = 0, 0.0
        for block in blocks:
            tier = next((tier for tier in self.tiers if block in tier.kept), None)
            if tier is None:
                break
            found += 1
            if tier is not self.tiers[0]:
                seconds += tier.block_s
                del tier.kept[block]
                self.tiers[0].kept[block] = None
            self.tiers[0].kept.move_to_end(block)
        self._make_room()
        return found, seconds

    def keep(self, blocks: Sequence[int]) -> None:
        """These were computed."""
        first = self.tiers[0].kept
        for block in blocks:
            for tier in self.tiers[1:]:
                tier.kept.pop(block, None)
            first[block] = None
            first.move_to_end(block)
        self._make_room()

    def bound_first(self, blocks: float) -> None:
        """Running streams leave so much of the first tier."""
        self.tiers[0].blocks = max(0.0, blocks)
        self._make_room()

    def clear(self) -> None:
        """The machine was lost."""
        for tier in self.tiers:
            tier.kept.clear()

    def _make_room(self) -> None:
        for at, tier in enumerate(self.tiers):
            while len(tier.kept) > tier.blocks:
                block, _ = tier.kept.popitem(last=False)
                if at + 1 < len(self.tiers):
                    self.tiers[at + 1].kept[block] = None
