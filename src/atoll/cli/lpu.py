"""`atoll lpu`: schedules of Groq's LPU, compiled to the cycle."""

from __future__ import annotations

from typing import Literal

from cyclopts.types import PositiveInt

from atoll.cli.catalogue import chosen_model
from atoll.cli.report_tables import show_table
from atoll.cli.screen import say, show_json
from atoll.cli.settings import flags
from atoll.lpu.compiler.chips.place import Wanted, place_decoder
from atoll.lpu.machine import shipped_chips
from atoll.lpu.sizes import topology_for
from atoll.lpu.summary import Summary, summarise
from atoll.lpu.timing import Timing, shipped_assumed
from atoll.report.page import Table


@flags
class CompileFlags:
    """Options of `atoll lpu compile`."""

    chips: PositiveInt
    """Chips that the model may take."""

    system: str = ""
    """How they are joined: `GroqNode`, `GroqRack`, `Dragonfly of racks` and others. Default: the
    smallest that has so many."""

    context: PositiveInt = 4096
    """Positions that caches have room for."""

    weights: Literal["auto", "f16", "int8"] = "auto"
    """How weights are stored. `auto`: f16 if they fit, else int8."""

    json: bool = False
    """Print the numbers as JSON."""


def compile_lpu(model: str, /, *, options: CompileFlags) -> None:
    """Compile a model for chips of Groq's LPU, and say to the cycle what a token takes.

    Which chips share a layer, which layers are where, and how the hidden vector comes from chips
    to chips is chosen so that a token is fastest. Shares are of what the chips could do while
    they are at it. Compiled are dense decoders with gated blocks; larger ones take some seconds.

    Example: `atoll lpu compile Llama-2-70B --chips 576`

    Example: `atoll lpu compile Llama-3.1-8B --chips 72 --system GroqRack --weights int8 --json`

    Args:
        model: By name, or a file: `.gguf`, a Hugging Face `config.json`, or `.toml`.
    """
    shape, _ = chosen_model(model, "F16")
    topology = topology_for(options.chips, options.system)
    timing = Timing(shipped_chips().find(topology.system.chip), shipped_assumed())
    wanted = Wanted(
        shape=shape,
        chips=options.chips,
        context=options.context,
        stored=None if options.weights == "auto" else options.weights,
    )
    found = summarise(place_decoder(timing, topology, wanted, say))
    if options.json:
        show_json(found)
    else:
        _show(found)


def _show(found: Summary) -> None:
    table = _table(found)
    show_table(table, table.title)
    print(f"chips used        {found.chips_used:,} of {found.chips:,}, {found.width} for a layer")
    print(f"memory used       {found.memory:.1%} of the fullest chip's")
    print(f"layer             {found.layer_us:.1f} us, {found.layer_cycles:,} cycles")
    hand_overs = f"{found.hand_overs}, {found.hand_over_cycles:,} cycles together"
    print(f"hand-overs        {hand_overs}")
    print(f"token             {found.token_us:,.1f} us, {found.token_cycles:,} cycles")
    print(f"host              {found.host_us:,.1f} us for embedding and logits")
    print(f"tokens per second {found.tokens_per_s:,.0f}")
    if found.joules_per_token is not None:
        print(f"energy            {found.joules_per_token:,.1f} J a token")
    for note in found.notes:
        say(note)


def _table(found: Summary) -> Table:
    heads = ("part", "times", "cycles", "us", "words", "planes load", "multiply", "ALUs", "links")
    rows = tuple(
        (
            *(part.name, str(part.times), f"{part.cycles:,}", f"{part.us:.2f}", f"{part.words:,}"),
            *(f"{n:.1%}" for n in (part.load, part.multiply, part.alus, part.links)),
        )
        for part in found.parts
    )
    title = f"{found.model} on {found.system}, weights of {found.weights}"
    return Table(title, heads, rows)
