"""One side of an LPU, cycle by cycle: registers that shift, and memory beside them.

Slow and literal, and it knows nothing of phases but when an instruction is at its place: what
the simulator concludes from phases alone must come out of it too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from atoll.lpu.program import Flow, Instruction, Read, Switch, Vector, Write
from atoll.lpu.timing import Timing

Value = NDArray[np.uint8]
Event = tuple[str, Instruction, int, int]


class Registers:
    """Streams and memory of the west; vectors pass the middle unchanged, as bytes."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self.memory: dict[tuple[int, int], Value] = {}
        # By way, stream and position.
        self._lanes: dict[tuple[str, int, int], Value] = {}
        self._held: dict[tuple[int, int, int], Value] = {}

    def run(self, instructions: Iterable[Instruction], cycles: int) -> None:
        """Do all of it.

        Raises:
            LookupError: A register is empty, or a word is had twice in a cycle.
        """
        events: dict[int, list[Event]] = defaultdict(list)
        for found in instructions:
            self._note(found, events)
        for now in range(cycles):
            self._shift()
            for what, found, n, i in sorted(events[now], key=lambda e: e[0], reverse=True):
                getattr(self, what)(found, n, i)
            self._once(events[now])

    def _note(self, found: Instruction, events: dict[int, list[Event]]) -> None:
        places = self._timing.slice_positions
        for n in range(found.count):
            phase = found.at + n * found.stride
            if isinstance(found, Read | Write):
                what = "give_read" if isinstance(found, Read) else "take_write"
                for i, number in enumerate(found.slices):
                    off = -places[number] if found.flow.way == "in" else places[number]
                    events[phase + off].append((what, found, n, i))
            elif isinstance(found, Vector):
                # The middle gives in the cycle in which it takes.
                events[phase].append(("take_and_pass", found, n, 0))
            elif isinstance(found, Switch):
                taken = phase + self._timing.switch_position
                given = found.result_at + n * found.stride - self._timing.switch_position
                events[taken].append(("take_switch", found, n, 0))
                events[given].append(("give_switch", found, n, 0))

    def _shift(self) -> None:
        self._lanes = {
            (way, stream, place - 1 if way == "in" else place + 1): value
            for (way, stream, place), value in self._lanes.items()
            if 0 <= (place - 1 if way == "in" else place + 1) <= self._timing.switch_position
        }

    def _take(self, flow: Flow, i: int, place: int) -> Value:
        return self._lanes[flow.way, flow.first + i, place]

    def take_write(self, found: Write, n: int, i: int) -> None:
        """A slice keeps a word; reads of this cycle come later, and never of the same word."""
        place = self._timing.slice_positions[found.slices[i]]
        word = found.slices[i], found.address + n * found.step
        self.memory[word] = self._take(found.flow, i, place)

    def give_read(self, found: Read, n: int, i: int) -> None:
        """A slice gives a word."""
        place = self._timing.slice_positions[found.slices[i]]
        word = found.slices[i], found.address + n * found.step
        self._lanes[found.flow.way, found.flow.first + i, place] = self.memory[word]

    def take_and_pass(self, found: Vector, n: int, i: int) -> None:
        """The middle passes vectors on."""
        values = [self._take(operand.flow, 0, 0) for operand in found.operands]
        for result in found.results:
            self._lanes["out", result.flow.first, 0] = values[result.value]

    def take_switch(self, found: Switch, n: int, i: int) -> None:
        """The switch takes vectors in."""
        place = self._timing.switch_position
        for lane in range(found.flow.width):
            self._held[id(found), n, lane] = self._take(found.flow, lane, place)

    def give_switch(self, found: Switch, n: int, i: int) -> None:
        """And gives them, turned."""
        place = self._timing.switch_position
        for lane in range(found.flow.width):
            value = np.roll(self._held.pop((id(found), n, lane)), -found.shift)
            self._lanes["in", found.result.first + lane, place] = value

    def _once(self, events: Iterable[Event]) -> None:
        words: list[tuple[int, int]] = []
        reads: set[tuple[int, int]] = set()
        for _, found, n, i in events:
            if isinstance(found, Read | Write):
                word = found.slices[i], found.address + n * found.step
                if isinstance(found, Write):
                    words.append(word)
                else:
                    reads.add(word)
        if len(set(words)) < len(words) or reads.intersection(words):
            raise LookupError("a word is had twice in one cycle")
