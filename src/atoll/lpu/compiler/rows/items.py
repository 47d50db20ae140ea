"""What planes do: tiles of products, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from atoll.lpu.compiler.chain import LATER, Tensor
from atoll.lpu.compiler.rows.emission import Finish
from atoll.lpu.compiler.rows.room import Weights
from atoll.lpu.program import Number, Side

if TYPE_CHECKING:
    from atoll.lpu.compiler.rows.planes import Planes

Key = tuple[Side, int]


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors of a tensor from `first` on."""

    tensor: Tensor
    first: int
    count: int


class Work(Protocol):
    """Something that planes do step by step."""

    @property
    def number(self) -> Number:
        """Format of its products: f16 takes both planes of a side."""
        ...

    def ready(self) -> bool:
        """Whether all that the next step reads has its place in the schedule."""
        ...

    def step(self, planes: Planes, keys: Sequence[Key]) -> bool:
        """Put the next step onto the board; returns whether it was the last."""
        ...


def known(tensor: Tensor, first: int = 0, count: int | None = None, step: int = 1) -> bool:
    """Whether vectors of a tensor are there before, or what writes them has its place."""
    last = tensor.count if count is None else first + (count - 1) * step + 1
    return all(at < LATER for at in tensor.there[first : last : step or 1])


@dataclass(slots=True)
class Item:
    """One tile of a product: some rows times `weights[k]`, summed over k.

    Args:
        side: Whose planes multiply.
        number: int8 or f16.
        weights: Of each k; on the same side.
        rows: `rows[block][k]`, on either side; of several blocks only one k. Parts of a block
            follow each other.
        alus: Steps of what becomes of the sums.
        finish: Called for each block, and again where other ALUs are tried.
        part: Name of the part of the schedule that it counts for.
        is_last_fixed: Some rows lie in slices that `finish` reads or writes: the last tile of a
            plane is always the same, so that it can be another one.
    """

    side: Side
    number: Number
    weights: tuple[Weights, ...]
    rows: tuple[tuple[tuple[Rows, ...], ...], ...]
    alus: int
    finish: Finish
    part: str = ""
    is_last_fixed: bool = False
    done: int = 0
    left: list[int] = field(default_factory=list)

    def ready(self) -> bool:
        """As of work: of all tiles, as any may be the next."""
        parts = [part for tile in self.rows[self._block] for part in tile]
        return all(known(p.tensor, p.first, p.count) for p in parts) and all(
            known(tensor, w.first, w.words, w.step) for w in self.weights for tensor in w.tensors
        )

    def step(self, planes: Planes, keys: Sequence[Key]) -> bool:
        """As of work."""
        depth, block = len(self.weights), self._block
        turn = self.done % depth
        k = self._next(planes, keys, turn)
        if block == 0:
            planes.load(self.weights[k], keys)
        parts = self.rows[block][k]
        for n, part in enumerate(parts):
            planes.multiply(
                part,
                keys,
                install=block == 0 and n == 0,
                row=sum(before.count for before in parts[:n]),
                clear=turn == 0,
                block=block,
                emit=(self.alus, self.finish) if turn == depth - 1 else None,
                part=self.part,
            )
        self.done += 1
        return self.done == depth * len(self.rows)

    @property
    def _block(self) -> int:
        return self.done // len(self.weights)

    def _next(self, planes: Planes, keys: Sequence[Key], turn: int) -> int:
        """Of the tiles that are left the one that can be multiplied first."""
        depth = len(self.weights)
        order = [(k + planes.lane(keys[0])) % depth for k in range(depth)]
        if turn == 0:
            self.left = order[:-1] if self.is_last_fixed else order
        if not self.left:
            return order[-1]
        rows = self.rows[self._block]
        best = planes.soonest([(self.weights[k], rows[k][0]) for k in self.left], keys)
        return self.left.pop(best)
