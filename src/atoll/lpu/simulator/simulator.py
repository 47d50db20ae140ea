"""A program run on data, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from atoll.domain.errors import BadRequest
from atoll.lpu.program import Program, Read, Side, Step, Write
from atoll.lpu.simulator.hazards import Access, wrong
from atoll.lpu.simulator.jobs import Index, Job, Run, added_to, jobs
from atoll.lpu.simulator.link import Linked, link
from atoll.lpu.simulator.memory import Memory, Words
from atoll.lpu.timing import Timing

ORDERS_MAX = 64
"""Routines that are kept linked for one base and one set of indices."""


class Simulator:
    """Chips with a program and memory, which stays from run to run."""

    def __init__(
        self, program: Program, timing: Timing, data: Callable[[str], Words] | None = None
    ) -> None:
        """Link all routines, and lay blocks into memory.

        Args:
            program: Steps, routines, and blocks.
            timing: Positions and delays of the chips.
            data: Words of a block's tensor, uint8 of shape (words, slices, lanes).

        Raises:
            BadRequest: Steps do not fit each other or the chips, a routine takes what nobody
                gave or asks for what a chip cannot do, or a block has no place.
        """
        self._program = program
        self._timing = timing
        self._memory = Memory(program.chips, timing)
        self._steps = sorted(program.steps, key=lambda step: step.at)
        _check_steps(program, self._steps)
        self._linked = {r: self._link(r) for r in sorted({step.routine for step in self._steps})}
        self._orders: dict[tuple[object, ...], tuple[Linked, list[Job]]] = {}
        for block in program.blocks:
            if data is None:
                raise BadRequest(f"nothing gives the words of {block.tensor}")
            words = data(block.tensor)
            if len(words) != block.words:
                raise BadRequest(f"{block.tensor}: {len(words)} words and not {block.words}")
            self.poke(block.chip, block.side, block.slices, block.address, words)

    def run(self, indices: Mapping[str, Index] | None = None) -> None:
        """Run the whole program once.

        Args:
            indices: What to add to addresses that have an index: an integer, or one for each
                slice of the instruction.

        Raises:
            BadRequest: An index is missing, or an address is outside of memory.
        """
        given = indices or {}
        with np.errstate(all="ignore"):
            for step in self._steps:
                self._run_step(step, given)

    def peek(self, chip: int, side: Side, slices: Sequence[int], address: int, words: int) -> Words:
        """Words of memory from `address` on, shape (words, slices, lanes)."""
        return self._memory.peek(chip, side, slices, address, words)

    def poke(self, chip: int, side: Side, slices: Sequence[int], address: int, data: Words) -> None:
        """Put words of shape (words, slices, lanes) into memory from `address` on."""
        self._memory.poke(chip, side, slices, address, data)

    def _link(self, number: int) -> tuple[Linked, list[Job]]:
        routine = self._program.routines[number]
        bases = [step.base for step in self._steps if step.routine == number]
        try:
            linked = link(routine, self._timing, range(min(bases), max(bases) + 1))
        except BadRequest as error:
            raise BadRequest(f"{routine.name}: {error.problem}", hint=error.hint) from None
        return linked, jobs(linked, self._timing)

    def _run_step(self, step: Step, indices: Mapping[str, Index]) -> None:
        name = self._program.routines[step.routine].name
        try:
            linked, todo = self._ordered(step, indices)
            run = Run(len(linked.units), step, self._memory, indices, self._timing)
            for u in linked.order:
                run.outputs[u] = todo[u](run)
                for done in linked.last.get(u, ()):
                    run.outputs[done] = ()
        except BadRequest as error:
            raise BadRequest(
                f"{name} at cycle {step.at}: {error.problem}", hint=error.hint
            ) from None

    def _ordered(self, step: Step, indices: Mapping[str, Index]) -> tuple[Linked, list[Job]]:
        """The routine in an order that is right for this run."""
        linked, todo = self._linked[step.routine]
        if not linked.doubtful:
            return linked, todo

        def offset(found: Read | Write, n: int) -> int:
            return added_to(found, n, step, indices)

        def of(access: Access) -> int:
            found = linked.units[access.unit].instruction
            assert isinstance(found, Read | Write)
            return offset(found, access.number)

        if not wrong(linked.doubtful, of, linked.rank):
            return linked, todo
        names = sorted(
            {
                unit.instruction.index
                for unit in linked.units
                if isinstance(unit.instruction, Read | Write) and unit.instruction.index
            }
        )
        values = (indices[n] for n in names)
        fixed = tuple(v if isinstance(v, int | np.integer) else tuple(v) for v in values)
        key = (step.routine, step.base, fixed)
        found = self._orders.get(key)
        if found is None:
            exact = link(self._program.routines[step.routine], self._timing, range(1), offset)
            if len(self._orders) >= ORDERS_MAX:
                self._orders.clear()
            found = self._orders[key] = exact, jobs(exact, self._timing)
        return found


def _check_steps(program: Program, steps: Sequence[Step]) -> None:
    free = [0] * program.chips
    for step in steps:
        if not 0 <= step.routine < len(program.routines):
            raise BadRequest(f"there is no routine {step.routine}")
        routine = program.routines[step.routine]
        name = f"{routine.name} at cycle {step.at}"
        if len(step.chips) != len(routine.chips) or len(set(step.chips)) < len(step.chips):
            raise BadRequest(f"{name}: chips {step.chips} for {len(routine.chips)}")
        for chip in step.chips:
            if not 0 <= chip < program.chips:
                raise BadRequest(f"{name}: there is no chip {chip} of {program.chips}")
            if step.at < free[chip]:
                raise BadRequest(f"{name}: chip {chip} is not free before cycle {free[chip]}")
            free[chip] = step.at + routine.cycles
