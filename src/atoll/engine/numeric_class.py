"""Which bits an engine computes, found out by computing: a part's numeric class.

Exact rows are to have the bits of a row that is computed alone. Whether rows computed
together have them depends on the model's number format and the kernels that the
processor gets: so a few rows are computed alone, and again in calls of several, of one
sequence and of many. Where these differ exact rows go through the engine one by one
(`row_by_row`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from atoll.domain.bits import Bits
from atoll.engine import row_by_row
from atoll.engine.batch import EXACT_ROWS_MAX, Span
from atoll.engine.codec import Rows
from atoll.engine.llama import Context

ROWS = 4
"""Rows that are computed alone. A step of a large part takes tenths of a second."""
SLOTS = 16
"""Most sequences in a call that is tried."""
SEED = 20_260_101
DIGEST_CHARS = 16

Compute = Callable[[list[Span], list[int]], list[Rows]]
"""Computes one legal call whose every input follows from its position alone; outputs of the
rows with these indices."""


def settle(context: Context) -> Bits:
    """Find the class of a context that is fed hidden states, and have it keep to it.

    Its slots are to be empty, and are afterwards.

    Raises:
        EngineFault: The engine does not compute.
    """
    given = _inputs(context)

    def compute(spans: list[Span], wanted: list[int]) -> list[Rows]:
        rows = context.inputs(row_by_row.rows_in(spans))
        for row, one in zip(rows, row_by_row.each_row(spans), strict=True):
            row[:] = given[one.keep]
        if not context.is_tapped:
            return context.logits(spans, wanted, exact=True)
        found = context.hidden(spans, exact=True)
        return [found[i] for i in wanted]

    return _settled(context, compute)


def settle_whole(context: Context) -> Bits:
    """The same of a whole model, which is fed tokens."""

    def compute(spans: list[Span], wanted: list[int]) -> list[Rows]:
        tokens = np.array([one.keep + 1 for one in row_by_row.each_row(spans)], np.int32)
        return context.logits_of_tokens(spans, tokens, wanted, exact=True)

    return _settled(context, compute)


def _settled(context: Context, compute: Compute) -> Bits:
    options = context.options
    context.row_by_row = False
    alone = [
        compute([Span(0, i, 1)], [0])[0].tobytes()
        for i in range(min(ROWS, options.context, options.rows_max))
    ]
    together = all(_is_alike(context, compute, call, alone) for call in _calls(context))
    for slot in range(min(SLOTS, options.n_slots)):
        context.drop(slot)
    context.row_by_row = not together
    digest = hashlib.sha256(b"".join(alone)).hexdigest()[:DIGEST_CHARS]
    return Bits(digest, together)


def _is_alike(context: Context, compute: Compute, call: list[Span], alone: list[bytes]) -> bool:
    """Whether the rows of a call that are known alone have the same bits there."""
    ones = list(row_by_row.each_row(call))
    known = [i for i, one in enumerate(ones) if one.keep < len(alone)]
    known = known[: max(context.options.outputs_max, context.options.n_slots)]
    found = compute(call, known)
    return all(row.tobytes() == alone[ones[i].keep] for i, row in zip(known, found, strict=True))


def _calls(context: Context) -> Iterator[list[Span]]:
    """Calls such as exact sessions make: guesses, chunks, merged steps, merged guesses."""
    options = context.options
    rows_max = min(options.rows_max, options.context)
    for rows in (ROWS, EXACT_ROWS_MAX):
        yield [Span(0, 0, min(rows, rows_max))]
    for slots, rows in ((SLOTS, 1), (2, ROWS)):
        n = min(slots, options.n_slots, options.rows_max // rows)
        if n > 1:
            yield [Span(slot, 0, rows) for slot in range(n)]


def _inputs(context: Context) -> Rows:
    """Rows to compute, the same everywhere: normally distributed, shape (rows, n_embd)."""
    shape = (EXACT_ROWS_MAX, context.model.n_embd)
    return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)
