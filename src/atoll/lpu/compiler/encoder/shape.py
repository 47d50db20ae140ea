"""The shape of an encoder's layers, and how it is divided into tiles."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.rows.dense import blocks, tiled
from atoll.lpu.timing import Timing

GROUP_MAX = 4
"""Heads of a tile: what K's tables and ALUs are enough for."""
TILES_MAX = 4
"""Tiles of a row: what a layer norm's ALUs are enough for."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Numbers of a position, heads, numbers between the two products of the feed-forward part,
    positions.

    A tile holds a `group` of whole heads; the lanes above are zeros.
    """

    timing: Timing
    hidden: int = 1024
    heads: int = 16
    inner: int = 4096
    rows: int = 384

    def __post_init__(self) -> None:
        """Whether it can be tiled.

        Raises:
            BadRequest: It cannot; says what is in the way.
        """
        if min(self.hidden, self.heads, self.inner, self.rows) < 1 or self.hidden % self.heads:
            raise BadRequest(f"{self.hidden} numbers do not divide into {self.heads} heads")
        if self.head > self.timing.lanes:
            raise BadRequest(
                f"a head of {self.head} numbers is wider than a vector of {self.timing.lanes}"
            )
        if self.head >= self.timing.assumed.accumulator_rows:
            raise BadRequest(f"a head of {self.head} numbers has more rows than accumulators")
        if self.tiles > TILES_MAX:
            raise BadRequest(
                f"{self.tiles} tiles of {self.group} heads of {self.head} numbers, and a layer norm"
                f" takes at most {TILES_MAX}"
            )
        if self.rows % (2 * len(self.blocks)):
            raise BadRequest(
                f"{self.rows} positions are not {len(self.blocks)} equal blocks of even size",
                hint="pad the sequence",
            )

    @property
    def head(self) -> int:
        """Numbers of a head."""
        return self.hidden // self.heads

    @property
    def group(self) -> int:
        """Heads of a tile."""
        most = min(GROUP_MAX, self.timing.lanes // self.head)
        return max(g for g in range(1, most + 1) if self.heads % g == 0)

    @property
    def tiles(self) -> int:
        """Tiles of a row."""
        return self.heads // self.group

    @property
    def columns(self) -> list[int]:
        """Lanes of each tile."""
        return [self.group * self.head] * self.tiles

    @property
    def inner_columns(self) -> list[int]:
        """Lanes of each tile between the products of the feed-forward part."""
        return tiled(self.inner, self.timing.columns)

    @property
    def blocks(self) -> list[range]:
        """Positions in blocks of as many accumulators."""
        return blocks(self.rows, self.timing.assumed.accumulator_rows)

    @property
    def block(self) -> int:
        """Positions of a block."""
        return self.rows // len(self.blocks)
