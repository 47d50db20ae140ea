"""Writes the tables of explanation/lpu.md from schedules that are compiled on the spot.

    python -m docs.lpu_figures

A test checks that the page is current: the same model gives the same schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
from docs.marks import replaced

from atoll.forecast.models import shipped_models
from atoll.lpu.compiler.decoder.decode import Compiled, DecodeCompiler, split
from atoll.lpu.compiler.memory import BLOCK_COLUMNS, Stored
from atoll.lpu.machine import shipped_chips
from atoll.lpu.timing import Assumed, Timing, shipped_assumed

PAGE = Path(__file__).parent / "explanation" / "lpu.md"
CONTEXT = 4096


@dataclass(frozen=True)
class Row:
    """A model on a group of chips; `published_us` a layer, as measured or said."""

    model: str
    chips: int
    stored: Stored
    published: str


ROWS = (
    Row("Llama-3.1-8B", 1, "int8", "35.6"),
    Row("Llama-3.1-8B", 2, "int8", "35.6"),
    Row("Llama-3.1-8B", 4, "int8", "35.6"),
    Row("Llama-3.1-8B", 8, "int8", "35.6"),
    Row("Llama-2-7B", 8, "f16", "41.7"),
    Row("Llama-2-7B", 8, "int8", "41.7"),
    Row("Llama-2-70B", 8, "int8", "41.7 to 48.6"),
)
VARIED = "Llama-3.1-8B"
LIMIT_COLUMNS = (
    *("Model, chips of a group, weights", "memory, us", "matrix units, us", "vector unit, us"),
    *("schedule, us", "published, us"),
)


def timing_of(assumed: Assumed | None = None) -> Timing:
    """Of the TSP."""
    return Timing(shipped_chips().find("Groq TSP"), assumed or shipped_assumed())


@cache
def compiled(model: str, chips: int, stored: Stored, context: int = CONTEXT) -> Compiled:
    """A model's routines."""
    return _compiled(timing_of(), model, chips, stored, context)


def _compiled(timing: Timing, model: str, chips: int, stored: Stored, context: int) -> Compiled:
    # Only layers are shown; a head may be too large for few chips.
    shape = msgspec.structs.replace(shipped_models().shapes.find(model), vocab=timing.lanes)
    return DecodeCompiler(timing, split(shape, chips, context, timing.lanes), stored).compile()


def layer_cycles(found: Compiled) -> int:
    """Cycles of a layer."""
    return sum(found.routines[name].cycles for name in ("attention", "feed-forward"))


def limits() -> str:
    """What a layer takes, beside what its weights alone would."""
    chip = timing_of().chip
    lines = [LIMIT_COLUMNS, tuple("---" for _ in LIMIT_COLUMNS)]
    for row in ROWS:
        found = compiled(row.model, row.chips, row.stored)
        shape = found.split.shape
        block = 3 * shape.hidden * shape.ffn
        weights = (shape.attention_params + block) / row.chips
        size = 2 if row.stored == "f16" else 1
        widened = weights / (BLOCK_COLUMNS * chip.lane_count) / chip.hertz
        lines.append(
            (
                f"{row.model}, {row.chips}, {row.stored}",
                f"{1e6 * weights * size / chip.sram_bytes_s:.1f}",
                f"{1e6 * weights * 2 / chip.weight_bytes_s:.1f}",
                f"{1e6 * widened:.1f}" if row.stored == "int8" else "",
                f"{1e6 * layer_cycles(found) / chip.hertz:.1f}",
                row.published,
            )
        )
    return _table(lines)


def waits() -> str:
    """What a layer of Llama 2 70B waits for, one after the other."""
    found = compiled("Llama-2-70B", 8, "int8")
    lines = [("What", "cycles", "us"), ("---", "---", "---")]
    for name in ("attention", "feed-forward"):
        before = 0
        for what, cycle in found.marks[name]:
            lines.append((f"{name}: {what}", f"{cycle - before:,}", _us(cycle - before)))
            before = cycle
    lines.append(("a layer", f"{layer_cycles(found):,}", _us(layer_cycles(found))))
    return _table(lines)


def assumed() -> str:
    """How a layer's cycles change with what no source gives."""
    chosen = shipped_assumed()
    base = layer_cycles(compiled(VARIED, 8, "int8", 1024))
    lines: list[tuple[str, ...]] = [("Assumed", "chosen", "half", "double"), ("---",) * 4]
    for name, what in (
        ("alu_cycles", "cycles of a vector ALU"),
        ("memory_cycles", "cycles from a write to a read"),
        ("matrix_cycles", "cycles of a product, past the tiles"),
        ("switch_cycles", "cycles of the switch unit"),
        ("link_streams", "streams from links at an edge"),
    ):
        value = getattr(chosen, name)
        shares = []
        for other in (value // 2, value * 2):
            timing = timing_of(msgspec.structs.replace(chosen, **{name: other}))
            cycles = layer_cycles(_compiled(timing, VARIED, 8, "int8", 1024))
            shares.append(f"{cycles / base - 1:+.1%}")
        lines.append((what, f"{value}", *shares))
    return _table(lines)


def _us(cycles: int) -> str:
    return f"{1e6 * cycles / timing_of().chip.hertz:.2f}"


def _table(lines: Sequence[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page_with_tables(page: str) -> str:
    """`page` with what lies between the marks replaced by the current tables."""
    for name, table in (("limits", limits), ("waits", waits), ("assumed", assumed)):
        page = replaced(page, name, table())
    return page


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text("utf-8")), "utf-8")
