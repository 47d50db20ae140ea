"""Compiles the catalogue's models for LPUs, and writes their times into the package.

Each lies on as many chips as it needs, weights of int8, as public systems have them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from atoll.domain.errors import BadRequest
from atoll.forecast.devices import shipped_devices
from atoll.forecast.lpu_compiled import CompiledTime, CompiledTimes, compilable
from atoll.forecast.models import shipped_models
from atoll.forecast.shapes import ModelShape
from atoll.lpu.compiler.chips.place import Wanted, place_decoder
from atoll.lpu.machine import shipped_chips
from atoll.lpu.sizes import CHIP, topology_for
from atoll.lpu.timing import Timing, shipped_assumed

FILE = Path(__file__).parents[1] / "src" / "atoll" / "forecast" / "data" / "lpu_compiled.toml"
HEAD = """# Times of models' schedules on the first LPU, on as many chips as each needs, without a
# host or a service. Written by `python -m bench lpu-compiled`.
"""
CHIPS = 2880
"""Of forty racks."""
CONTEXT = 4096


def compiled(shape: ModelShape) -> CompiledTime:
    """A model's time.

    Raises:
        BadRequest: It does not fit.
    """
    timing = Timing(shipped_chips().find(CHIP), shipped_assumed())
    wanted = Wanted(shape=shape, chips=CHIPS, context=CONTEXT, stored="int8")
    placed = place_decoder(timing, topology_for(CHIPS), wanted)
    return CompiledTime(
        model=shape.name,
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        ffn=shape.ffn,
        vocab=shape.vocab,
        weights=placed.compiled.stored,
        context=CONTEXT,
        chips=placed.chips_used,
        width=placed.width,
        layer_cycles=placed.layer_cycles,
        hand_over_cycles=sum(placed.hand_overs),
        token_cycles=placed.cycles,
        token_s=round(placed.token_s, 9),
    )


def written(found: CompiledTimes) -> str:
    """The file's text: JSON's strings, lists and numbers are TOML's as well."""
    lines = [f"{HEAD}devices = {json.dumps(found.devices)}"]
    for time in found.times:
        lines.append("\n[[times]]")
        lines += [f"{k} = {json.dumps(v)}" for k, v in msgspec.structs.asdict(time).items()]
    return "\n".join(lines) + "\n"


def run() -> dict[str, Any]:
    """Compile all models of the kind, and write the file; minutes."""
    times: list[CompiledTime] = []
    for shape in shipped_models().shapes:
        if not compilable(shape):
            continue
        try:
            times.append(compiled(shape))
        except BadRequest as problem:
            print(f"left out: {shape.name}: {problem.problem}", file=sys.stderr, flush=True)
            continue
        print(f"{shape.name}: {1e3 * times[-1].token_s:.3f} ms", file=sys.stderr, flush=True)
    chip = shipped_chips().find(CHIP)
    names = {chip.name, *chip.aliases}
    devices = tuple(d.name for d in shipped_devices() if names & {d.name, *d.aliases})
    FILE.write_text(written(CompiledTimes(devices, tuple(times))))
    return {"models": len(times)} | {
        f"{time.model} ms": round(1e3 * time.token_s, 4) for time in times
    }
