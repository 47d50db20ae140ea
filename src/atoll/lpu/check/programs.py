"""Whole programs: their routines, each once, and the steps and blocks around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from atoll.lpu.check.conflicts import Conflict, Found
from atoll.lpu.check.form import malformed
from atoll.lpu.check.links import absent_links, anywhere, busy_links, unmatched
from atoll.lpu.check.matrix import matrix_conflicts
from atoll.lpu.check.memory import memory_conflicts
from atoll.lpu.check.streams import stream_conflicts
from atoll.lpu.check.units import switch_conflicts, vector_conflicts, window_conflicts
from atoll.lpu.program import SIDES, Block, Instruction, Program, Routine, Step
from atoll.lpu.timing import Timing
from atoll.lpu.topology import Topology

BROKEN = frozenset({"form"})
"""Instructions with a conflict of these kinds have no place and time to follow."""


def check(program: Program, timing: Timing, topology: Topology | None = None) -> list[Conflict]:
    """Everything in a program that the machine cannot do; empty if it is sound.

    Each routine is checked once, with all bases that steps give to its local addresses.

    Args:
        program: The schedule.
        timing: Of its chips.
        topology: Which chips are joined by how many links; None: as the program wants them.

    Raises:
        BadRequest: A routine is too long, or the chip's figures are not published.
    """
    found = list(_steps(program, topology))
    found += _blocks(program, timing)
    bases: dict[int, set[int]] = {}
    for step in program.steps:
        bases.setdefault(step.routine, set()).add(step.base)
    for number, routine in enumerate(program.routines):
        found += check_routine(routine, timing, sorted(bases.get(number, {0})))
    return found


def check_routine(routine: Routine, timing: Timing, bases: Sequence[int] = (0,)) -> list[Conflict]:
    """Everything in a routine that its chips cannot do, local addresses beginning at `bases`."""
    found: list[Conflict] = []
    sound: list[list[Instruction]] = []
    known: dict[tuple[Instruction, ...], list[Found]] = {}
    for chip, code in enumerate(routine.chips):
        wrong = [
            conflict
            for n, instruction in enumerate(code)
            for conflict in malformed(n, instruction, timing, len(routine.chips))
        ]
        found += [conflict.on(routine.name, chip, code) for conflict in wrong]
        broken = {n for conflict in wrong if conflict.kind in BROKEN for n in conflict.who}
        sound.append([i for n, i in enumerate(code) if n not in broken])
        alike = tuple(map(anywhere, sound[-1]))
        if alike not in known:
            known[alike] = list(_on_chip(alike, timing, routine.cycles, bases))
        conflicts = [*known[alike], *busy_links(sound[-1], timing)]
        found += [conflict.on(routine.name, chip, sound[-1]) for conflict in conflicts]
    for chip, conflict in unmatched(sound, timing):
        found.append(conflict.on(routine.name, chip, sound[chip]))
    return found


def _on_chip(
    code: Sequence[Instruction], timing: Timing, cycles: int, bases: Sequence[int]
) -> Iterator[Found]:
    """Conflicts that have nothing to do with which chips links go to."""
    yield from window_conflicts(code, timing, cycles)
    yield from memory_conflicts(code, timing, bases)
    yield from stream_conflicts(code, timing)
    yield from matrix_conflicts(code, timing)
    yield from vector_conflicts(code, timing)
    yield from switch_conflicts(code, timing)


def _steps(program: Program, topology: Topology | None) -> Iterator[Conflict]:
    """Steps of chips that are not there, or busy; links that are not there."""
    if topology is not None and program.chips > topology.chips:
        what = f"{program.chips} chips of {topology.chips}"
        yield Conflict("step", what, topology.chips, 0, "system")
    runs: dict[int, list[tuple[int, int, str]]] = {}
    for step in program.steps:
        if not 0 <= step.routine < len(program.routines):
            what = f"routine {step.routine} of {len(program.routines)}"
            yield _step_conflict(step, what)
            continue
        routine = program.routines[step.routine]
        if len(step.chips) != len(routine.chips) or len(set(step.chips)) != len(step.chips):
            yield _step_conflict(step, f"{len(set(step.chips))} chips for {len(routine.chips)}")
        if step.at < 0:
            yield _step_conflict(step, "begins before the program")
        for chip in sorted(set(step.chips)):
            if not 0 <= chip < program.chips:
                yield _step_conflict(step, f"chip {chip} of {program.chips}")
            name = f"step of {routine.name} in cycle {step.at}"
            runs.setdefault(chip, []).append((step.at, step.at + routine.cycles, name))
        if topology is not None:
            yield from absent_links(routine, step, topology)
    for chip, on in sorted(runs.items()):
        for one, other in pairwise(sorted(on)):
            if other[0] < one[1]:
                what = f"begins before the step before it ends in cycle {one[1]}"
                yield Conflict("step", what, chip, other[0], "chip", "", (one[2], other[2]))


def _step_conflict(step: Step, what: str) -> Conflict:
    return Conflict("step", what, min(step.chips, default=0), step.at, "chip")


def _blocks(program: Program, timing: Timing) -> Iterator[Conflict]:
    """Blocks that lie over each other, or where no memory is."""
    held: dict[tuple[int, str, int], list[tuple[int, int, str]]] = {}
    for block in program.blocks:
        problem = _outside(block, program.chips, timing)
        if problem:
            yield Conflict("block", problem, block.chip, 0, f"memory of {block.tensor}")
            continue
        for n in block.slices:
            span = (block.address, block.address + block.words, block.tensor)
            held.setdefault((block.chip, block.side, n), []).append(span)
    seen = set()
    for (chip, side, n), spans in sorted(held.items()):
        spans.sort()
        for one, other in pairwise(spans):
            if other[0] < one[1] and (chip, one, other) not in seen:
                seen.add((chip, one, other))
                what = f"{one[2]} and {other[2]} both lie at address {other[0]}"
                yield Conflict("block", what, chip, 0, f"slice {n} in the {side}")


def _outside(block: Block, chips: int, timing: Timing) -> str:
    if not 0 <= block.chip < chips:
        return f"chip {block.chip} of {chips}"
    if block.side not in SIDES or any(not 0 <= n < timing.slices for n in block.slices):
        return f"slices {block.slices} in the {block.side}"
    if len(set(block.slices)) < len(block.slices):
        return f"a slice twice in {block.slices}"
    if block.words < 1 or block.address < 0 or block.address + block.words > timing.words:
        return f"words {block.address} to {block.address + block.words - 1} of {timing.words}"
    return ""
