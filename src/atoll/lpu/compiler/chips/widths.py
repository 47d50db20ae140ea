"""What can be said of a group's width before anything is compiled for it.

Bounds, not estimates: a schedule takes no fewer cycles and no fewer words, so that widths need
not be compiled that cannot be better than one that was.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.forecast.shapes import ModelShape
from atoll.lpu.compiler.decoder.decode import Split, split
from atoll.lpu.compiler.memory import BLOCK_COLUMNS, WORK, Stored
from atoll.lpu.program import SIDES
from atoll.lpu.timing import Timing


@dataclass(frozen=True, slots=True)
class Least:
    """At least so many cycles a token takes in all routines of a group of `width` chips, and so
    many words of a slice all parts of the model together take.
    """

    width: int
    cycles: int
    words: int


def widths(shape: ModelShape, node_chips: int) -> list[int]:
    """Numbers of a node's chips that may share a layer, the most first: equal shares of heads."""
    return [k for k in range(min(shape.kv_heads, node_chips), 0, -1) if shape.kv_heads % k == 0]


def least(shape: ModelShape, width: int, stored: Stored, *, context: int, timing: Timing) -> Least:
    """Bounds that follow from how weights are brought to the matrix units: 16 columns of a tile
    of int8 each cycle, of f16 on each side.

    Raises:
        BadRequest: The model is not covered.
    """
    parts = split(shape, width, context, timing.lanes)
    tiles = shape.layers * sum(layer_tiles(parts, timing.lanes)) + head_tiles(parts, timing.lanes)
    if stored == "f16":
        at_once = abreast = len(SIDES)
    else:
        at_once = 1
        abreast = (timing.slices - WORK) // (BLOCK_COLUMNS // len(SIDES))
    return Least(width, -(-tiles // at_once), -(-tiles // abreast))


def layer_tiles(parts: Split, lanes: int) -> tuple[int, int]:
    """Words of all tiles of a layer's attention and feed-forward block on a chip."""
    hidden = parts.shape.hidden
    blocks = -(-hidden // lanes)
    joined = sum((2 + heads.rows) * _words(heads.lanes, lanes) for heads in parts.heads)
    rows = sum(heads.rows for heads in parts.heads)
    attention = blocks * joined + rows * _words(hidden, lanes)
    feed_forward = 2 * blocks * _words(parts.ffn, lanes)
    feed_forward += -(-parts.ffn // lanes) * _words(hidden, lanes)
    return attention, feed_forward


def head_tiles(parts: Split, lanes: int) -> int:
    """Words of all tiles of the head on a chip."""
    return -(-parts.shape.hidden // lanes) * _words(parts.vocab, lanes)


def _words(columns: int, lanes: int) -> int:
    """Words of the tiles of so many columns, each beginning anew after as many as lanes."""
    whole, rest = divmod(columns, lanes)
    return whole * (lanes // BLOCK_COLUMNS) + -(-rest // BLOCK_COLUMNS)
