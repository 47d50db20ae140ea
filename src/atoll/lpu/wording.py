"""Instructions in words, for whoever reads a conflict or a picture of a schedule."""

from __future__ import annotations

from atoll.lpu.program import (
    Burst,
    Flow,
    Instruction,
    Load,
    Multiply,
    Read,
    Receive,
    Send,
    Switch,
    Vector,
    Write,
)


def described(instruction: Instruction) -> str:
    """The instruction on one line: what it does, on which streams, when and how often."""
    return f"{_action(instruction)}; {_when(instruction)}"


def _when(burst: Burst) -> str:
    every = f" every {burst.stride} cycles" if burst.count > 1 and burst.stride != 1 else ""
    return f"{burst.count} vector{'s' * (burst.count != 1)} from phase {burst.at}{every}"


def _action(instruction: Instruction) -> str:
    match instruction:
        case Read() | Write():
            verb = "Read onto" if isinstance(instruction, Read) else "Write from"
            return f"{verb} {streams(instruction.flow)}, {_memory(instruction)}"
        case Load():
            return (
                f"Load {instruction.number} weights of {_plane(instruction)}"
                f" from {streams(instruction.flow)}"
            )
        case Multiply():
            return _multiply(instruction)
        case Vector():
            operands = ", ".join(f"{o.number} of {streams(o.flow)}" for o in instruction.operands)
            results = ", ".join(f"{r.number} on {streams(r.flow)}" for r in instruction.results)
            steps = " ".join(step.op for step in instruction.steps) or "nothing"
            return f"Vector {steps} ({operands or 'constants'} to {results or 'nowhere'})"
        case Switch():
            return (
                f"Switch {streams(instruction.flow)} to {streams(instruction.result)},"
                f" shifted by {instruction.shift} lanes"
            )
        case Send():
            return (
                f"Send {streams(instruction.flow)} to chip {instruction.to}, lane"
                f" {instruction.lane}"
            )
        case Receive():
            return (
                f"Receive onto {streams(instruction.flow)} from chip {instruction.source}, lane"
                f" {instruction.lane}"
            )


def _multiply(multiply: Multiply) -> str:
    last = multiply.row + multiply.count - 1
    rows = f"{multiply.row}" if multiply.count == 1 else f"{multiply.row}-{last}"
    return (
        f"Multiply {multiply.number} of {streams(multiply.flow)} by {_plane(multiply)}"
        f"{', installed anew' if multiply.install else ''},"
        f" {'into' if multiply.clear else 'added to'} accumulators {rows}"
        + (f", out on {streams(multiply.result)}" if multiply.result else "")
    )


def _plane(instruction: Load | Multiply) -> str:
    side = instruction.flow.side
    if instruction.number == "f16":
        return f"the planes in the {side}"
    return f"plane {instruction.plane} in the {side}"


def _memory(instruction: Read | Write) -> str:
    base = "base + " if instruction.local else ""
    index = f"{instruction.index} + " if instruction.index else ""
    return f"{spans(instruction.slices)} at {base}{index}{instruction.address}"


def streams(flow: Flow) -> str:
    """Names of the streams: `west in 0-3`."""
    last = flow.first + flow.width - 1
    numbers = f"{flow.first}" if flow.width == 1 else f"{flow.first}-{last}"
    return f"{flow.side} {flow.way} {numbers}"


def spans(slices: tuple[int, ...]) -> str:
    """Names of memory slices, those that follow each other as one span."""
    runs: list[list[int]] = []
    for n in slices:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    names = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
    return f"slice{'s' * (len(slices) > 1)} {names}"
