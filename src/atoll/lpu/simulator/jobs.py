"""What each unit does to data: the arithmetic of a run.

A job takes what `Linked` says, and its outputs are arrays: bytes of shape (vectors, streams,
lanes) or numbers of shape (vectors, lanes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

import numpy as np

from atoll.domain.errors import BadRequest
from atoll.lpu.program import (
    Load,
    Multiply,
    Number,
    Read,
    Receive,
    Send,
    Side,
    Step,
    Switch,
    Vector,
    Write,
)
from atoll.lpu.simulator.alu import Array, compute, kinds
from atoll.lpu.simulator.link import Linked
from atoll.lpu.simulator.memory import Memory
from atoll.lpu.simulator.streams import Taken
from atoll.lpu.simulator.units import Unit
from atoll.lpu.timing import Timing

Index = int | Sequence[int]


class Run:
    """A step while it runs: what units gave so far, and the sums in accumulators."""

    def __init__(
        self,
        units: int,
        step: Step,
        memory: Memory,
        indices: Mapping[str, Index],
        timing: Timing,
    ) -> None:
        self.outputs: list[Sequence[Array]] = [()] * units
        self.step = step
        self.memory = memory
        self.indices = indices
        self.timing = timing
        self._sums: dict[tuple[int, Side, int, Number], Array] = {}

    def sums(self, chip: int, side: Side, plane: int, number: Number) -> Array:
        """Accumulators of a plane, shape (rows, columns)."""
        key = (chip, side, plane, number)
        found = self._sums.get(key)
        if found is None:
            shape = (self.timing.assumed.accumulator_rows, self.timing.columns)
            held = np.int32 if number == "int8" else np.float32
            found = self._sums[key] = np.zeros(shape, held)
        return found


def added(found: Read | Write, step: Step, indices: Mapping[str, Index]) -> Index:
    """What a run adds to the addresses of an instruction, or of each of its slices.

    Raises:
        BadRequest: The run has no such index.
    """
    base = step.base if found.local else 0
    if not found.index:
        return base
    index = indices.get(found.index)
    if index is None:
        raise BadRequest(f"the run has no index {found.index!r}")
    if isinstance(index, int | np.integer):
        return base + int(index)
    return [base + int(i) for i in index]


def added_to(found: Read | Write, n: int, step: Step, indices: Mapping[str, Index]) -> int:
    """What a run adds in the slice of number n."""
    more = added(found, step, indices)
    if isinstance(more, int):
        return more
    if n >= len(more):
        raise BadRequest(f"index {found.index!r} has {len(more)} integers, and slices are more")
    return more[n]


Job = Callable[[Run], Sequence[Array]]


def jobs(linked: Linked, timing: Timing) -> list[Job]:
    """A job for each unit."""
    return [_job(linked, u, unit, timing) for u, unit in enumerate(linked.units)]


def _job(linked: Linked, u: int, unit: Unit, timing: Timing) -> Job:
    found, taken = unit.instruction, linked.taken[u]
    match found:
        case Read():
            return _Words(unit, found).read
        case Write():
            words = _Words(unit, found)
            return lambda run: words.write(run, taken[0].fetch(run.outputs, timing.lanes))
        case Load():
            return lambda run: (_load(found, taken, run),)
        case Multiply():
            return _Product(unit, found, taken[0], linked.weights[u])
        case Vector():
            return _Chain(unit, found, taken)
        case Switch():
            return lambda run: (
                np.roll(taken[0].fetch(run.outputs, timing.lanes), -found.shift, axis=2),
            )
        case Send() | Receive():
            return lambda run: (taken[0].fetch(run.outputs, timing.lanes),)
        case _:
            assert_never(found)


class _Words:
    """Words of slices, read or written."""

    def __init__(self, unit: Unit, found: Read | Write) -> None:
        self._unit = unit
        self._found = found
        slices = found.slices
        in_order = slices == tuple(range(slices[0], slices[0] + len(slices)))
        self._slices = np.array(slices)
        self._beside = slice(slices[0], slices[0] + len(slices)) if in_order else None
        self._addresses = found.address + found.step * np.arange(found.count)
        self._low = int(self._addresses.min())
        self._high = int(self._addresses.max())

    def read(self, run: Run) -> tuple[Array]:
        side, where = self._where(run)
        words: Array = side[where]
        if not isinstance(where[1], slice):
            return (words,)
        return (words.transpose(1, 0, 2).copy(),)

    def write(self, run: Run, words: Array) -> tuple[()]:
        side, where = self._where(run)
        if isinstance(where[1], slice):
            side[where] = words.transpose(1, 0, 2)
        elif self._found.step == 0:
            # All go to one word, and the last stays.
            side[where[0], where[1][-1:]] = words[-1:]
        else:
            side[where] = words
        return ()

    def _where(self, run: Run) -> tuple[Array, tuple[slice, slice] | tuple[Array, Array]]:
        """The side's memory, and what is meant of it: slices by words as they lie there, or
        words by slices.
        """
        found, chip = self._found, run.step.chips[self._unit.chip]
        more = added(found, run.step, run.indices)
        if isinstance(more, int):
            low, high = self._low + more, self._high + more
            self._check(run, chip, [low] * len(found.slices), [high] * len(found.slices))
            side = run.memory.side(chip, found.flow.side)
            if self._beside is not None and found.step > 0:
                return side, (self._beside, slice(low, high + 1, found.step))
            return side, (self._slices[None, :], (self._addresses + more)[:, None])
        if len(more) != self._unit.slices:
            raise BadRequest(
                f"{self._unit}: index {found.index!r} has {len(more)} integers for "
                f"{self._unit.slices} slices"
            )
        part = np.array(more[self._unit.first : self._unit.first + len(found.slices)])
        self._check(run, chip, (self._low + part).tolist(), (self._high + part).tolist())
        side = run.memory.side(chip, found.flow.side)
        return side, (self._slices[None, :], self._addresses[:, None] + part)

    def _check(self, run: Run, chip: int, lows: Sequence[int], highs: Sequence[int]) -> None:
        if min(lows) >= 0 and max(highs) < run.timing.words:
            return
        for number, low, high in zip(self._found.slices, lows, highs, strict=True):
            try:
                run.memory.check(chip, self._found.flow.side, number, low, high)
            except BadRequest as error:
                raise BadRequest(f"{self._unit}: {error}") from None


def _load(found: Load, taken: Sequence[Taken], run: Run) -> Array:
    """Weights of shape (columns, lanes), float32: it holds all that planes multiply."""
    lanes, beside = run.timing.lanes, len(taken)
    weights = np.empty((run.timing.columns, lanes), np.float32)
    loaded = found.count * beside
    weights[: found.column] = 0
    weights[found.column + loaded :] = 0
    brought = weights[found.column : found.column + loaded]
    columns = brought.reshape(found.count, beside, lanes)
    for i, flow in enumerate(taken):
        columns[:, i] = flow.fetch(run.outputs, lanes)
    return weights


class _Product:
    """Vectors times a plane's weights."""

    def __init__(self, unit: Unit, found: Multiply, taken: Taken, load: int) -> None:
        self._unit = unit
        self._found = found
        self._taken = taken
        self._load = load

    def __call__(self, run: Run) -> Sequence[Array]:
        found = self._found
        values = self._taken.fetch(run.outputs, run.timing.lanes)
        # Of int8 exact: 320 products of at most 2^14 stay below 2^24.
        products = values.astype(np.float32, copy=False) @ run.outputs[self._load][0].T
        sums = run.sums(self._unit.chip, found.flow.side, found.plane, found.number)
        rows = sums[found.row : found.row + found.count]
        if found.clear:
            rows[:] = products
        else:
            rows += products.astype(rows.dtype, copy=False)
        return () if found.result is None else (rows.copy(),)


class _Chain:
    """Steps of the vector unit, one after another, each on all vectors of the burst."""

    def __init__(self, unit: Unit, found: Vector, taken: Sequence[Taken]) -> None:
        self._found = found
        self._taken = taken
        self._kinds = kinds(found, str(unit))
        self._steps = [
            (
                step.op,
                [a if isinstance(a, int) else np.float32(a) for a in step.arguments],
                [self._kinds[a] if isinstance(a, int) else "f32" for a in step.arguments],
            )
            for step in found.steps
        ]

    def __call__(self, run: Run) -> Sequence[Array]:
        lanes = run.timing.lanes
        values = [flow.fetch(run.outputs, lanes) for flow in self._taken]
        for op, arguments, used in self._steps:
            given = [values[a] if isinstance(a, int) else np.asarray(a) for a in arguments]
            values.append(compute(op, given, used))
        shape = (self._found.count, lanes)
        found = []
        for result in self._found.results:
            value = values[result.value]
            # What is of constants alone is the same in all lanes.
            found.append(value if value.shape == shape else np.broadcast_to(value, shape))
        return found
