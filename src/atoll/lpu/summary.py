"""What a compiled decoder comes to: times, memory, shares of the chips' units, energy."""

from __future__ import annotations

import msgspec

from atoll.forecast.devices import Device, shipped_devices
from atoll.lpu.compiler.chips.place import Placed
from atoll.lpu.program import Program, Routine, Step
from atoll.lpu.timing import Assumed
from atoll.lpu.usage import usage

US = 1e6


class PartSummary(msgspec.Struct, frozen=True):
    """A routine: how often a token needs it, its time, and shares of what a chip of the group
    could do in that time; `words` of each memory slice are its own.
    """

    name: str
    times: int
    cycles: int
    us: float
    words: int
    load: float
    multiply: float
    products: float
    alus: float
    links: float


class Summary(msgspec.Struct, frozen=True):
    """A decoder on chips. Times are of one token alone; `token_us` does not include what `host_us`
    is: a row of the embedding to the chips, and the logits back.

    `memory` is the share of the fullest group's words that is taken. `joules_per_token`: all used
    chips at their power for the time of a token; null where no power is published.
    """

    model: str
    system: str
    chips: int
    chips_used: int
    width: int
    context: int
    weights: str
    layer_cycles: int
    layer_us: float
    hand_overs: int
    hand_over_cycles: int
    token_cycles: int
    token_us: float
    host_us: float
    tokens_per_s: float
    memory: float
    watts: float | None
    joules_per_token: float | None
    parts: tuple[PartSummary, ...]
    notes: tuple[str, ...]


def summarise(placed: Placed) -> Summary:
    """What it comes to."""
    hertz = placed.timing.chip.hertz
    device = _device(placed)
    watts = placed.chips_used * device.power if device else None
    return Summary(
        model=placed.wanted.shape.name,
        system=placed.topology.system.name,
        chips=placed.wanted.chips,
        chips_used=placed.chips_used,
        width=placed.width,
        context=placed.wanted.context,
        weights=placed.compiled.stored,
        layer_cycles=placed.layer_cycles,
        layer_us=US * placed.layer_cycles / hertz,
        hand_overs=len(placed.hand_overs),
        hand_over_cycles=sum(placed.hand_overs),
        token_cycles=placed.cycles,
        token_us=US * placed.token_s,
        host_us=US * placed.host_s,
        tokens_per_s=1 / (placed.token_s + placed.host_s),
        memory=max(placed.words_used) / placed.timing.words,
        watts=watts,
        joules_per_token=watts * placed.token_s if watts else None,
        parts=tuple(_parts(placed)),
        notes=tuple(_notes(placed, device)),
    )


def _parts(placed: Placed) -> list[PartSummary]:
    layers = placed.wanted.shape.layers
    return [
        _part(placed, routine, layers if name != "head" else 1)
        for name, routine in placed.compiled.routines.items()
    ]


def _part(placed: Placed, routine: Routine, times: int) -> PartSummary:
    chips = len(routine.chips)
    alone = Program(chips, (routine,), (Step(0, tuple(range(chips)), 0),))
    found = usage(alone, placed.timing)[0]
    return PartSummary(
        name=routine.name,
        times=times,
        cycles=routine.cycles,
        us=US * routine.cycles / placed.timing.chip.hertz,
        words=placed.compiled.words[routine.name],
        load=found.load,
        multiply=found.multiply,
        products=found.products,
        alus=found.alus,
        links=found.links,
    )


def _device(placed: Placed) -> Device | None:
    """The chip in the catalogue of devices, with its power."""
    chip = placed.timing.chip
    names = {chip.name, *chip.aliases}
    return next(
        (d for d in shipped_devices() if d.power and names & {d.name, *d.aliases}),
        None,
    )


def _notes(placed: Placed, device: Device | None) -> list[str]:
    notes = [
        "one token at a time; its time is that of the schedule, without any service around it",
        "the shape alone is compiled: no biases, no norms of queries and keys",
        f"assumed, as no source gives them: {assumptions(placed.timing.assumed)}",
    ]
    if device:
        notes.append(
            f"energy: {device.power:.0f} W a chip ({device.name}), all chips used, all the time"
        )
    return notes


def assumptions(assumed: Assumed) -> str:
    """The figures that somebody chose, in a line."""
    return ", ".join(
        (
            f"{assumed.alu_cycles} cycles of a vector ALU",
            f"{assumed.memory_cycles} of memory",
            f"{assumed.matrix_cycles} of a matrix plane",
            f"{assumed.install_cycles} to install weights",
            f"{assumed.switch_cycles} of the switch",
            f"{assumed.accumulator_rows} rows of accumulators",
            f"{assumed.link_streams} streams of a side for links",
        )
    )
