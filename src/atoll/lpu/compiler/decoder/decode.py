"""The decode step of a dense decoder: routines of a layer's halves and of the head.

All chips of a group do the same with their own heads and their own part of the feed-forward
block's width; what they add to the hidden vector is summed over the group (`sums.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.forecast.shapes import ModelShape
from atoll.lpu.compiler.builder import Builder, Matrix, make_matrix
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.decoder import attention
from atoll.lpu.compiler.decoder.caches import (
    Cache,
    ValueTables,
    add_key,
    add_value,
    make_cache,
)
from atoll.lpu.compiler.decoder.feed_forward import gated
from atoll.lpu.compiler.decoder.norm import Ones, rms_norm
from atoll.lpu.compiler.decoder.sums import add_product, stored
from atoll.lpu.compiler.memory import BLOCK_COLUMNS, WORK, Memory, Piece, Stored
from atoll.lpu.program import SIDES, Routine, Side
from atoll.lpu.timing import Timing


@dataclass(frozen=True, slots=True)
class Split:
    """A decoder's parts on one chip of a group of `chips`.

    Attributes:
        groups: Lane groups: heads of keys that lie in the lanes of one vector.
        heads: Of each lane group.
        ffn: Width of the feed-forward block, values.
        vocab: Columns of the head.
    """

    shape: ModelShape
    chips: int
    context: int
    heads: tuple[attention.Heads, ...]
    ffn: int
    vocab: int
    half: bool = False
    eps: float = 1e-5

    @property
    def dims(self) -> tuple[int, ...]:
        """Lanes that each lane group uses."""
        return tuple(heads.lanes for heads in self.heads)


def split(
    shape: ModelShape,
    chips: int,
    context: int,
    lanes: int,
    *,
    half: bool = False,
    eps: float = 1e-5,
) -> Split:
    """A decoder's parts on each of so many chips that share its layers.

    Raises:
        BadRequest: It has what is not covered, or it does not come apart so.
    """
    for covered, what in (
        (not shape.experts, "experts"),
        (shape.latent is None, "latent attention"),
        (not shape.window, "windows of attention"),
        (shape.gated, "feed-forward blocks without a gate"),
    ):
        if not covered:
            raise BadRequest(f"{shape.name} has {what}, which is not compiled")
    if shape.head_dim > lanes or shape.head_dim % BLOCK_COLUMNS:
        raise BadRequest(
            f"heads of {shape.head_dim} values do not tile {lanes} lanes",
            hint=f"a multiple of {BLOCK_COLUMNS}, of at most {lanes}",
        )
    if shape.kv_heads % chips:
        raise BadRequest(f"{shape.kv_heads} heads of keys do not come apart on {chips} chips")
    if not 1 <= context <= CONTEXT_MAX:
        raise BadRequest(f"a context of {context} positions; 1 to {CONTEXT_MAX} are compiled")
    each = shape.kv_heads // chips
    wide = min(each, lanes // shape.head_dim)
    rows = shape.heads // shape.kv_heads
    groups = tuple(
        attention.Heads(min(wide, each - first), rows, shape.head_dim)
        for first in range(0, each, wide)
    )
    return Split(
        shape,
        chips,
        context,
        groups,
        -(-shape.ffn // chips),
        -(-shape.vocab // chips),
        half=half,
        eps=eps,
    )


CONTEXT_MAX = 4096
"""Tables of cosines and sines lie in two slices each, beside what is computed."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Routines of a chip, and what lies in its memory; addresses of a part begin at 0.

    Attributes:
        words: Words of a slice that each local part takes, by routine.
        shared_words: Words of a slice that are taken once.
        pieces: What lies there, by routine; "" for what all share.
        marks: Since which cycle of a routine each result is there, in their order.
        hidden: The vector that goes from layer to layer, f32.
        logits: What the head makes of it, f32.
    """

    split: Split
    stored: Stored
    routines: dict[str, Routine]
    words: dict[str, int]
    shared_words: int
    pieces: dict[str, tuple[Piece, ...]]
    marks: dict[str, tuple[tuple[str, int], ...]]
    hidden: Tensor
    logits: Tensor


class DecodeCompiler:
    """Makes the routines of one split on one kind of chip."""

    def __init__(self, timing: Timing, parts: Split, stored_as: Stored) -> None:
        """Tables that all routines share.

        Raises:
            BadRequest: They do not fit, or more heads share a key than are compiled.
        """
        rows = max(heads.rows for heads in parts.heads)
        if rows > timing.assumed.accumulator_rows:
            raise BadRequest(
                f"{rows} heads share a key; {timing.assumed.accumulator_rows} at most are compiled"
            )
        self.timing = timing
        self.parts = parts
        self.memory = Memory(timing, stored_as)
        self.pieces: dict[str, tuple[Piece, ...]] = {}
        self.words: dict[str, int] = {}
        self.marks: dict[str, tuple[tuple[str, int], ...]] = {}
        self.routines: dict[str, Routine] = {}
        lanes = timing.lanes
        self.blocks = -(-parts.shape.hidden // lanes)
        memory, outer = self.memory, timing.slices - WORK
        context = parts.context
        ones = [
            memory.tile("ones", (), lanes, side=side, stored="f16", local=False) for side in SIDES
        ]
        self.ones = Ones(*ones)
        turns = attention.Turns(
            memory.table("cosine", "f16", context, side="west", first=outer),
            memory.table("after", "f16", context, side="west", first=outer + 2),
            memory.table("before", "f16", context, side="east", first=outer),
        )
        self.tables = attention.Tables(
            turns,
            tuple(
                memory.table("slot", "f16", 1, side=SIDES[n % 2], first=2 * n, part=(n,))
                for n in range(max(heads.slots for heads in parts.heads))
            ),
            memory.table("past", "f16", lanes + 1, side="east", first=outer + 2),
            self.ones,
        )
        for tensor in (turns.cosine, turns.after, turns.before):
            tensor.index = "position"
        lane = memory.table("lane", "f16", lanes, side="east", first=outer + 2)
        lane.index = "lane"
        self.value_tables = {
            dims: ValueTables(
                self.ones,
                memory.table("diagonal", "f16", dims, side="east", first=outer + 2, part=(dims,)),
                lane,
            )
            for dims in sorted(set(parts.dims))
        }
        self.hidden = memory.work("f32", self.blocks)
        logits = -(-parts.vocab // lanes)
        self.logits = memory.work("f32", logits)
        self.mark = memory.mark()
        self.pieces[""] = tuple(memory.pieces)

    def compile(self) -> Compiled:
        """All routines.

        Raises:
            BadRequest: A part does not fit into a chip's memory.
        """
        self._routine("attention", self._attention)
        self._routine("feed-forward", self._feed_forward)
        self._routine("head", self._head)
        return Compiled(
            self.parts,
            self.memory.stored,
            self.routines,
            self.words,
            self.memory.shared_words,
            self.pieces,
            self.marks,
            self.hidden,
            self.logits,
        )

    def _routine(self, name: str, make: Callable[[Builder], None]) -> None:
        memory = self.memory
        memory.begin(self.mark)
        memory.pieces.clear()
        self.hidden.there = [0] * self.hidden.count
        builder = Builder(self.timing, memory, self.parts.chips)
        make(builder)
        self.routines[name] = builder.routine(name)
        self.words[name] = memory.local_words
        self.marks[name] = tuple(builder.marks)
        self.pieces[name] = tuple(memory.pieces)

    def matrix(self, what: str, columns: list[int], depth: int) -> Matrix:
        """Room for a matrix of `depth` tiles of rows; blocks of so many columns."""
        return make_matrix(self.memory, what, columns, depth, self.memory.stored)

    def _hidden_columns(self) -> list[int]:
        """Columns of each place of the hidden vector: of those that hold other blocks on other
        chips the most of them.
        """
        lanes, chips = self.timing.lanes, self.parts.chips
        columns = [min(lanes, self.parts.shape.hidden - n * lanes) for n in range(self.blocks)]
        for first in range(0, self.blocks // chips * chips, chips):
            columns[first : first + chips] = [max(columns[first : first + chips])] * chips
        return columns

    def _normed(self, builder: Builder) -> Tensor:
        side: Side = "west"
        weight = self.memory.table("norm", "f16", self.blocks, side=side, first=32, local=True)
        hidden, eps = self.parts.shape.hidden, self.parts.eps
        x = rms_norm(builder, self.hidden, weight, self.ones, hidden=hidden, eps=eps)
        builder.mark("norm", x)
        return x

    def _attention(self, builder: Builder) -> None:
        parts, memory = self.parts, self.memory
        caches: list[Cache] = []
        for g, heads in enumerate(parts.heads):
            cache = make_cache(memory, g, positions=parts.context, dims=heads.lanes)
            caches.append(cache)
        # Of each lane group keys, values, then queries.
        columns = [heads.lanes for heads in parts.heads for _ in range(2 + heads.rows)]
        joined = self.matrix("qkv", columns, self.blocks)
        rows = sum(heads.rows for heads in parts.heads)
        output = self.matrix("output", self._hidden_columns(), rows)
        x = self._normed(builder)
        made = memory.scratch("f16", joined.width, apart=self.tables.slots)
        builder.product(x, joined, stored(joined, made))
        builder.mark("queries, keys, values", made)
        mixed = memory.scratch("f16", rows)
        at = row = 0
        shift = parts.shape.head_dim // 2 if parts.half else 1
        for cache, heads in zip(caches, parts.heads, strict=True):
            turns, slots = self.tables.turns, self.tables.slots[: heads.slots]
            unturned = _part(made, at, 1)
            [key] = attention.rotate(builder, unturned, turns, shift, (), count=1)
            keys_there = add_key(builder, cache, key)
            queries = attention.rotate(
                builder, _part(made, at + 2, heads.rows), turns, shift, slots, count=heads.rows
            )
            found = attention.scores(builder, queries, cache, self.tables, keys_there)
            builder.mark("scores", found[-1])
            peak = attention.peaks(builder, found)
            builder.mark("greatest scores", peak)
            # Placed after what the token waits for, beside which there is time for it.
            value = _part(made, at + 1, 1)
            there = add_value(builder, cache, value, self.value_tables[cache.dims])
            into = _part(mixed, row, heads.rows)
            attention.mix(
                builder, found, peak, cache, heads=heads, ones=self.ones, since=there, into=into
            )
            mixed.there += into.there
            builder.mark("softmax and values", into)
            at += 2 + heads.rows
            row += heads.rows
        add_product(builder, mixed, output, self.hidden)
        builder.mark("output and sum over chips", self.hidden)

    def _feed_forward(self, builder: Builder) -> None:
        parts, lanes = self.parts, self.timing.lanes
        widths = [min(lanes, parts.ffn - n) for n in range(0, parts.ffn, lanes)]
        inner = self.matrix("inner", [w for w in widths for _ in range(2)], self.blocks)
        outer = self.matrix("outer", self._hidden_columns(), len(widths))
        x = gated(builder, self._normed(builder), inner)
        builder.mark("gates", x)
        add_product(builder, x, outer, self.hidden)
        builder.mark("output and sum over chips", self.hidden)

    def _head(self, builder: Builder) -> None:
        parts, lanes = self.parts, self.timing.lanes
        widths = [min(lanes, parts.vocab - n) for n in range(0, parts.vocab, lanes)]
        head = self.matrix("head", widths, self.blocks)
        x = self._normed(builder)
        self.logits.there = []
        builder.product(x, head, stored(head, self.logits))
        builder.mark("logits", self.logits)


def _part(tensor: Tensor, first: int, count: int) -> Tensor:
    """Some vectors of a tensor."""
    there = tensor.there[first : first + count]
    address = tensor.address + first
    return Tensor(tensor.number, tensor.side, tensor.slices, address, count, there)
