"""`atoll lpu show`: what a chip does over time, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from atoll.cli.catalogue import chosen_model
from atoll.cli.screen import say, write
from atoll.cli.settings import flags
from atoll.lpu.compiler.chips.place import Wanted, place_decoder
from atoll.lpu.machine import shipped_chips
from atoll.lpu.sizes import topology_for
from atoll.lpu.timing import Timing, shipped_assumed
from atoll.report.lpu_picture import svg
from atoll.report.lpu_view import View, check_file, timeline_of, write_file


@flags
class ShowFlags:
    """Options of `atoll lpu show`."""

    chips: PositiveInt
    """Chips that the model may take."""

    part: View = "layer"
    """What of it: a layer's `attention` or `feed-forward` block or both, the `head`, or all that
    a chip does for a `token`."""

    chip: NonNegativeInt = 0
    """Which chip: of those that share a layer, or, for a token, of all."""

    output: Annotated[Path | None, Parameter(alias="-o")] = None
    """A picture (`.svg`), or a page to zoom into (`.html`). Default: the picture goes to standard
    output."""

    system: str = ""
    """How they are joined: `GroqNode`, `GroqRack`, `Dragonfly of racks` and others. Default: the
    smallest that has so many."""

    context: PositiveInt = 4096
    """Positions that caches have room for."""

    weights: Literal["auto", "f16", "int8"] = "auto"
    """How weights are stored. `auto`: as `atoll lpu compile` chooses."""


def show_lpu(model: str, /, *, options: ShowFlags) -> None:
    """Draw the schedule of a model on one chip of Groq's LPU, unit by unit and cycle by cycle.

    Time goes to the right, the chip from its west edge to its east edge down. A page can be zoomed
    into until single cycles show, and tells of each bar which instruction it is.

    Example: `atoll lpu show SmolLM2-135M --chips 8 --part attention -o attention.svg`

    Example: `atoll lpu show Llama-2-70B --chips 576 -o layer.html`

    Args:
        model: By name, or a file: `.gguf`, a Hugging Face `config.json`, or `.toml`.
    """
    path = options.output.expanduser() if options.output else None
    if path:
        check_file(path)
    shape, _ = chosen_model(model, "F16")
    topology = topology_for(options.chips, options.system)
    timing = Timing(shipped_chips().find(topology.system.chip), shipped_assumed())
    wanted = Wanted(
        shape=shape,
        chips=options.chips,
        context=options.context,
        stored=None if options.weights == "auto" else options.weights,
    )
    timeline = timeline_of(place_decoder(timing, topology, wanted, say), options.part, options.chip)
    if path:
        write_file(path, timeline)
        say(f"{timeline.title}: {path}")
    else:
        write(svg(timeline))
