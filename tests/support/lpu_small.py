"""A decoder small enough to be run on all chips of a simulated system, and chips with less memory,
so that it takes several of them.
"""

from __future__ import annotations

import msgspec

from atoll.forecast.shapes import ModelShape
from atoll.lpu.machine import shipped_chips
from atoll.lpu.timing import Timing, shipped_assumed

SMALL = ModelShape(
    name="Small",
    layers=4,
    hidden=700,
    heads=8,
    kv_heads=4,
    head_dim=32,
    ffn=1500,
    vocab=150,
)


def timing_of(words: int | None = None) -> Timing:
    """Of the TSP, with so many words in a memory slice."""
    chip = shipped_chips().find("Groq TSP")
    if words is not None:
        assert chip.memory is not None
        chip = msgspec.structs.replace(
            chip, memory=msgspec.structs.replace(chip.memory, words=words)
        )
    return Timing(chip, shipped_assumed())
