"""Keys and values in memory, as weights of the matrix units; how a position is added.

Keys: position j of a block of 320 is column j of a tile, so that scores are a product with it,
and a new key is one vector. Values: column d of a tile holds dimension d of all positions of a
block, one position a lane; so a new value changes a lane of every column. It is put there
by a product: rows v[d] in lane d, times ones, are v[d] in all lanes; times a vector that is 1
in the position's lane only and 0 elsewhere they are added to the columns.

What depends on the position (addresses of the new key, block of values, masks) is given as an
index when the program runs: the host writes it into the instructions before a token.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atoll.lpu.compiler.builder import Builder
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.decoder.norm import Ones
from atoll.lpu.compiler.memory import BLOCK_COLUMNS, Memory, Tile
from atoll.lpu.program import SIDES, Alu, Operand, Side

VALUES_SIDE: Side = "west"
"""Values of all blocks; ones, which sum the scores, on the other side."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Tiles of a lane group: of keys in turns on both sides, of values on one."""

    keys: tuple[Tile, ...]
    values: tuple[Tile, ...]
    dims: int

    @property
    def blocks(self) -> int:
        """Blocks of 320 positions."""
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class ValueTables:
    """`diagonal`: rows of the identity, those of columns 0, 16, 32, ... first, then 1, 17, ...;
    `lane`: a row for each lane, 1 in it; by index the position's.
    """

    ones: Ones
    diagonal: Tensor
    lane: Tensor


def make_cache(memory: Memory, group: int, *, positions: int, dims: int) -> Cache:
    """Room for keys and values of a layer: `dims` lanes are those of all heads of the group."""
    lanes = memory.timing.lanes
    blocks = -(-positions // lanes)
    keys = [
        memory.tile("keys", (group, b), lanes, side=SIDES[b % 2], stored="f16")
        for b in range(blocks)
    ]
    # A word more on each side, where slices write that do not hold the new position.
    for side in SIDES:
        memory.tile("spare", (group,), BLOCK_COLUMNS, side=side, stored="f16")
    values = [
        memory.tile("values", (group, b), dims, side=VALUES_SIDE, stored="f16")
        for b in range(blocks)
    ]
    return Cache(tuple(keys), tuple(values), dims)


def key_index(side: Side, pair: int) -> str:
    """Name of the index that the slices of a pair get for a new key, from the first tile on."""
    return f"key {side} {pair}"


def values_index(dims: int) -> str:
    """Name of the index of a block's values, from the first tile on."""
    return f"values of {dims}"


def indices(position: int, *, positions: int, lanes: int, dims: Iterable[int]) -> dict[str, int]:
    """What a program is given for a token at a position, of caches of so many positions and
    lane groups of so many dimensions.
    """
    blocks = -(-positions // lanes)
    block, column = divmod(position, lanes)
    words = lanes // BLOCK_COLUMNS
    found = {"position": position, "lane": column}
    for s, side in enumerate(SIDES):
        tiles = (blocks + 1 - s) // 2
        for pair in range(BLOCK_COLUMNS):
            here = s == block % 2 and pair == column % BLOCK_COLUMNS
            word = block // 2 * words + column // BLOCK_COLUMNS
            found[key_index(side, pair)] = word if here else tiles * words
    for b in range(blocks):
        found[f"block {b}"] = min(max(position + 1 - b * lanes, 0), lanes)
    for d in dims:
        found[values_index(d)] = block * -(-d // BLOCK_COLUMNS)
    return found


def add_key(builder: Builder, cache: Cache, key: Tensor) -> int:
    """Write a key, f16, shape (320,), where the position's column is; returns since when all
    keys are there.
    """
    chain = builder.chain()
    vector = chain.read(key)
    sides = SIDES[: cache.blocks]
    flows = [chain.streams(side, "out", 2) for side in sides]
    chain.vector([vector], [], [(0, "f16", flow) for flow in flows], at=0)
    written = []
    for side, flow in zip(sides, flows, strict=True):
        base = cache.keys[SIDES.index(side)].address
        for pair in range(BLOCK_COLUMNS):
            slices = (2 * pair, 2 * pair + 1)
            index = key_index(side, pair)
            into = Tensor("f16", side, slices, base, 1, index=index, local=True)
            chain.write(into, flow, at=0)
            written.append(into)
    builder.place(chain)
    return max(tensor.there[0] for tensor in written)


def add_value(builder: Builder, cache: Cache, value: Tensor, tables: ValueTables) -> int:
    """Add a value, f16, shape (320,), in the position's lane of all columns; returns since when
    all values are there.
    """
    side = VALUES_SIDE
    timing = builder.timing
    builder.load(tables.ones.on(side), side)
    first = done = 0
    for pair in range(min(BLOCK_COLUMNS, cache.dims)):
        slices = (2 * pair, 2 * pair + 1)
        # Columns come back to their slices after the way to the middle and back: no more of
        # them at a time than have been read by then.
        apart = 2 * timing.slice_positions[slices[0]] + len(NEW_COLUMN) * timing.assumed.alu_cycles
        rows = len(range(pair, cache.dims, BLOCK_COLUMNS))
        most = apart // timing.row_cycles("f16")
        for word in range(0, rows, most):
            count = min(most, rows - word)
            column = Tensor(
                "f16",
                side,
                slices,
                cache.values[0].address + word,
                count,
                index=values_index(cache.dims),
                local=True,
            )
            _add_rows(builder, column, value, tables, first)
            done = max(done, *column.there)
            first += count
    return done


NEW_COLUMN = (Alu("mul", (0, 1)), Alu("add", (3, 2)), Alu("f16", (4,)))
"""The new value in all lanes, times 1 in its lane and 0 elsewhere, and what was there."""


def _add_rows(
    builder: Builder, column: Tensor, value: Tensor, tables: ValueTables, first: int
) -> None:
    """Add a value to some columns, those of rows of the diagonal from `first` on; with the first
    of all, ones are installed.
    """
    side, timing, count = column.side, builder.timing, column.count
    stride = timing.row_cycles("f16")
    install = first == 0
    chain = builder.chain()
    operands = [
        chain.read(value, count=count, stride=stride, step=0),
        chain.read(tables.diagonal, first=first, count=count, stride=stride),
    ]
    out = chain.streams(side, "out", 2)
    steps = [Alu("mul", (0, 1)), Alu("f16", (2,))]
    [at] = chain.vector(operands, steps, [(3, "f16", out)], at=0, count=count, stride=stride)
    rows = chain.multiply(out, at=at, emit=True, install=install, count=count, stride=stride)
    there = timing.multiplied(at)
    old = [
        Operand(rows, "f32"),
        chain.read(tables.lane, at=there, count=count, stride=stride, step=0),
        chain.read(column, at=there, count=count, stride=stride),
    ]
    new = chain.streams(side, "out", 2)
    [left] = chain.vector(old, NEW_COLUMN, [(5, "f16", new)], at=there, count=count, stride=stride)
    chain.write(column, new, at=left, count=count, stride=stride)
    ready = builder.multiply_ready(side) if install else builder.planes[side].used
    begin = builder.place(chain, ready - at)
    if install:
        builder.used(side, begin + at)
    builder.planes[side].used = begin + at + count * stride
