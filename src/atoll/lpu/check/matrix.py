"""Matrix planes: loading, installing, multiplying, and what is in the accumulators.

Cycles are those at the edge. Weights that come there in a cycle can be installed so many cycles
later as installing takes. A routine finds nothing in planes that it can rely on: what it
multiplies by it loads, and what it adds to it wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from atoll.lpu.check.conflicts import Found
from atoll.lpu.program import NUMBER_BYTES, SIDES, Instruction, Load, Multiply, Side
from atoll.lpu.timing import Timing

NOBODY = -1


class _Turn(NamedTuple):
    """An instruction holds a plane from cycle `start` to cycle `last`."""

    start: int
    last: int
    who: int


def matrix_conflicts(code: Sequence[Instruction], timing: Timing) -> Iterator[Found]:
    """Everything about the planes of a chip, each conflict once for a pair of planes."""
    seen = set()
    for side in SIDES:
        for plane in range(timing.planes):
            for found in _plane(code, timing, side, plane):
                if (key := (found.kind, found.what, found.who)) not in seen:
                    seen.add(key)
                    yield found


def _plane(code: Sequence[Instruction], timing: Timing, side: Side, plane: int) -> Iterator[Found]:
    loads, products = [], []
    for n, found in enumerate(code):
        if not isinstance(found, Load | Multiply) or found.flow.side != side:
            continue
        if found.number == "int8" and found.plane != plane:
            continue
        start = found.at + timing.edge
        last = start + (found.count - 1) * found.stride
        if isinstance(found, Load):
            loads.append(_Turn(start, last, n))
        else:
            products.append(_Turn(start, last + timing.row_cycles(found.number) - 1, n))
    loads.sort()
    products.sort()
    name = f"plane {plane} in the {side}"
    for what, turns in (("loads", loads), ("products", products)):
        for one, other in pairwise(turns):
            if other.start <= one.last:
                who = (one.who, other.who)
                yield Found("matrix", f"two {what} at once", other.start, name, who)
    yield from _Weights(code, timing, name).follow(loads, products)
    yield from _accumulators(code, products, timing.assumed.accumulator_rows, name)


class _Weights:
    """Which weights are in the buffer of a plane and which in the plane, as time goes on."""

    def __init__(self, code: Sequence[Instruction], timing: Timing, name: str) -> None:
        self._code = code
        self._install_cycles = timing.assumed.install_cycles
        self._name = name
        self._buffer: list[_Turn] = []
        self._brought_by = np.full(timing.columns, NOBODY)
        self._installed: list[int] = []

    def follow(self, loads: Sequence[_Turn], products: Sequence[_Turn]) -> Iterator[Found]:
        """All loads and multiplications; what comes in the cycle of an install may refill."""
        events = [(t.start, 1, t) for t in loads] + [(t.start, 0, t) for t in products]
        for _, is_load, turn in sorted(events):
            yield from self._load(turn) if is_load else self._multiply(turn)
        for turn in self._buffer:
            yield self._found("lost", "weights that nothing installs", turn)

    def _found(
        self, kind: Literal["matrix", "missing", "lost"], what: str, turn: _Turn, *others: int
    ) -> Found:
        return Found(kind, what, turn.start, self._name, (*others, turn.who))

    def _load(self, turn: _Turn) -> Iterator[Found]:
        load = self._code[turn.who]
        assert isinstance(load, Load)
        columns = load.count * (load.flow.width // NUMBER_BYTES[load.number])
        own = slice(load.column, load.column + columns)
        for n in sorted(set(self._brought_by[own].tolist()) - {NOBODY}):
            what = "loads columns again before what was loaded is installed"
            yield self._found("matrix", what, turn, n)
        self._brought_by[own] = turn.who
        self._buffer.append(turn)

    def _multiply(self, turn: _Turn) -> Iterator[Found]:
        product = self._code[turn.who]
        assert isinstance(product, Multiply)
        if product.install:
            if not self._buffer:
                yield self._found("missing", "no weights are loaded that it could install", turn)
                return
            yield from self._install(turn)
        elif not self._installed:
            yield self._found("missing", "the plane has no weights", turn)
        for load in self._installed:
            yield from self._same_number(product, turn, load)

    def _install(self, turn: _Turn) -> Iterator[Found]:
        for load in self._buffer:
            ready = load.last + self._install_cycles
            if turn.start < ready:
                what = f"installs what is not loaded, and ready, before cycle {ready}"
                yield self._found("matrix", what, turn, load.who)
        self._installed = [load.who for load in self._buffer]
        self._buffer = []
        self._brought_by[:] = NOBODY

    def _same_number(self, product: Multiply, turn: _Turn, load: int) -> Iterator[Found]:
        weights = self._code[load]
        assert isinstance(weights, Load)
        if weights.number != product.number:
            what = f"{product.number} times weights of {weights.number}"
            yield self._found("matrix", what, turn, load)


def _accumulators(
    code: Sequence[Instruction], products: Sequence[_Turn], rows: int, name: str
) -> Iterator[Found]:
    """Sums that begin with nothing, and sums that nobody sees."""
    writer = np.full(rows, NOBODY)
    hidden = np.zeros(rows, dtype=np.bool_)
    for turn in products:
        product = code[turn.who]
        assert isinstance(product, Multiply)
        own = slice(product.row, product.row + product.count)
        writers = set(writer[own].tolist())
        if product.clear:
            for n in sorted(set(writer[own][hidden[own]].tolist())):
                what = "begins sums anew that nobody has seen"
                yield Found("lost", what, turn.start, name, (n, turn.who))
        elif NOBODY in writers:
            what = "adds to accumulators that were never begun"
            yield Found("missing", what, turn.start, name, (turn.who,))
        else:
            for n in sorted(writers):
                before = code[n]
                if isinstance(before, Multiply) and before.number != product.number:
                    what = "adds to accumulators of another format"
                    yield Found("matrix", what, turn.start, name, (n, turn.who))
        writer[own] = turn.who
        hidden[own] = product.result is None
    for n in sorted(set(writer[hidden].tolist())):
        yield Found("lost", "sums that nobody sees", code[n].at, name, (n,))
