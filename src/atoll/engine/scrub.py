"""Makes a slot usable again after NaN or infinity got into its cells.

Forgetting positions leaves their numbers in the cache. llama.cpp's kernel for
calls of 64 rows and more reads forgotten cells too where they share a tile
with others, and masks them by adding minus infinity: that makes NaN of NaN and
infinity, so that the slot's next session would inherit them.
"""

from __future__ import annotations

from atoll.domain.errors import EngineFault
from atoll.engine import codec
from atoll.engine.batch import EXACT_ROWS_MAX, Span
from atoll.engine.llama import Context


def scrub(context: Context, slot: int, keep: int = 0) -> None:
    """Write sound numbers over all cells of `slot` from `keep` on that were ever used.

    Its positions at `keep` and beyond are forgotten, as by `Context.drop`.
    The filler, rows of zeros, goes in by calls that are too small for the kernel
    above. A first pass cleans at least the first layer, whose keys and values
    depend on its input alone, and every further one the layer after.

    Args:
        context: Holds the slot.
        slot: Which one.
        keep: Positions that stay; their cells are sound.

    Raises:
        EngineFault: The engine makes no sound numbers of zeros either.
    """
    end = context.reached(slot)
    for _ in range(max(context.model.n_layers, 1)):
        if _fill(context, slot, keep, end):
            context.drop(slot, keep)
            return
    context.drop(slot, keep)
    raise EngineFault(
        f"slot {slot} cannot be made sound again",
        hint="the model file may be damaged; pull it again",
    )


def _fill(context: Context, slot: int, keep: int, end: int) -> bool:
    """One pass of filler; returns whether everything that came out was finite."""
    step, sound = min(EXACT_ROWS_MAX, context.options.rows_max), True
    for at in range(keep, end, step):
        span = Span(slot, at, min(step, end - at))
        context.inputs(span.rows)[:] = 0
        sound = codec.is_finite(context.outcome(span)) and sound
    return sound
