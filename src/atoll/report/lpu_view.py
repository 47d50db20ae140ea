"""Which part of a decoder's schedule is drawn, and the file that it goes into."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.chips.place import Placed
from atoll.lpu.program import Program, Step
from atoll.model.files import atomic_file
from atoll.report.lpu_page import page
from atoll.report.lpu_picture import svg
from atoll.report.lpu_schedule import Timeline, of_steps, with_phases

View = Literal["attention", "feed-forward", "layer", "head", "token"]
OF_A_LAYER = ("attention", "feed-forward")
ENDINGS = (".svg", ".html")


def timeline_of(placed: Placed, view: View, chip: int = 0) -> Timeline:
    """What one chip does.

    Args:
        placed: The program.
        view: `token`: all that the chip does for a token; else one part, as a group does it.
        chip: Of a token, its number in the system; else its number in the group.

    Raises:
        BadRequest: There is no such chip, or it does nothing.
    """
    name = placed.wanted.shape.name
    stored = placed.compiled.stored
    if view == "token":
        if not 0 <= chip < placed.topology.chips:
            raise BadRequest(
                f"{placed.topology.system.name} has no chip {chip}",
                hint=f"0 to {placed.topology.chips - 1}",
            )
        found = with_phases(
            of_steps(placed.program, placed.timing, chip), _steps(placed.program, chip)
        )
        parts = sum(chip in step.chips for step in placed.program.steps)
        what = f"all {parts} steps of a token on chip {chip} of {placed.topology.chips}"
    else:
        if not 0 <= chip < placed.width:
            raise BadRequest(
                f"{placed.width} chips share a layer, and {chip} is none of them",
                hint=f"0 to {placed.width - 1}",
            )
        routines = OF_A_LAYER if view == "layer" else (view,)
        program = _after_each_other(placed, routines)
        phases = [phase for step in program.steps for phase in _phases(placed, program, step)]
        found = with_phases(of_steps(program, placed.timing, chip), phases)
        of = {"layer": "a layer", "head": "the head"}.get(view, f"a layer's {view} block")
        group = f"chip {chip} of {placed.width}" if placed.width > 1 else "a chip"
        what = f"{of} on {group}"
    cycles = found.end - found.begin
    title = f"{name}, weights of {stored}: {what}, {cycles:,} cycles"
    return replace(found, title=title)


def _after_each_other(placed: Placed, names: tuple[str, ...]) -> Program:
    routines = tuple(placed.compiled.routines[name] for name in names)
    chips = tuple(range(placed.width))
    at, steps = 0, []
    for n, routine in enumerate(routines):
        steps.append(Step(n, chips, at))
        at += routine.cycles
    return Program(placed.width, routines, tuple(steps))


def _steps(program: Program, chip: int) -> list[tuple[str, int, int]]:
    """What a chip does in the steps of a token."""
    found = []
    for step in program.steps:
        if chip in step.chips:
            routine = program.routines[step.routine]
            name = f"{routine.name}, layer {step.layer}" if step.layer >= 0 else routine.name
            found.append((name, step.at, step.at + routine.cycles))
    return found


def _phases(placed: Placed, program: Program, step: Step) -> list[tuple[str, int, int]]:
    """Results of a step, each from when that before it was there until it is there."""
    name = program.routines[step.routine].name
    found, begin = [], step.at
    for what, there in sorted(placed.compiled.marks[name], key=lambda mark: mark[1]):
        end = step.at + there
        found.append((what, begin, end))
        begin = end
    return [phase for phase in found if phase[1] < phase[2]]


def check_file(path: Path) -> None:
    """See that a picture can be made and has a place, before anything is compiled for it.

    Raises:
        BadRequest: The file has another ending, or no folder.
    """
    if path.suffix.lower() not in ENDINGS:
        raise BadRequest(
            f"a schedule cannot be drawn as {path.name!r}",
            hint=f"end its name in {' or '.join(ENDINGS)}",
        )
    if not path.parent.is_dir():
        raise BadRequest(f"there is no folder {path.parent}", hint="make it, or name another")


def write_file(path: Path, timeline: Timeline) -> None:
    """Write a picture, or a page to zoom into, by the file's ending, whole or not at all.

    Raises:
        BadRequest: As `check_file`, or the file cannot be written.
    """
    check_file(path)
    made = svg(timeline) if path.suffix.lower() == ".svg" else page(timeline)
    try:
        with atomic_file(path) as file:
            file.write(made.encode())
    except OSError as error:
        raise BadRequest(
            f"cannot write {path}: {error.strerror or error}", hint="name a file you can write"
        ) from error
