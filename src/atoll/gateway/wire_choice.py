"""How the rows of a ring travel, where a session is not exact.

Bytes are nearly half of what halves are, and lose more. They pay where sending is what
a prompt waits for; where nodes compute longer at a chunk than any link carries it,
sending goes on beside computing, and costs a prompt next to nothing. Plans are made by
the rows that a ring will send (`plan.predict`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from atoll.domain.control import Join
from atoll.domain.wire import F16_SCALED, I8_BLOCKS
from atoll.gateway.options import RingOptions
from atoll.model.manifest import Manifest
from atoll.plan.fleet import ModelCosts
from atoll.plan.report import PlanReport, model_costs


def costs_of(
    manifest: Manifest, boundaries: Sequence[int], options: RingOptions, joins: Iterable[Join]
) -> ModelCosts:
    """What a plan for these nodes is made by.

    Args:
        manifest: The model.
        boundaries: Where it may be cut.
        options: What the operator chose.
        joins: What the nodes said of themselves; one that knows no bytes rules them out.
    """
    know = options.wire != "f16" and all(I8_BLOCKS in join.encodings for join in joins)
    fixed = know and options.wire == "int8"
    return model_costs(
        *(manifest, boundaries, options.ends),
        encoding=I8_BLOCKS if fixed else F16_SCALED,
        short=I8_BLOCKS if know and not fixed else "",
    )


def choose_encoding(
    options: RingOptions, joins: Iterable[Join], foretold: PlanReport | None
) -> str:
    """One of `domain.wire.ENCODINGS` for a ring.

    Args:
        options: What the operator chose.
        joins: What the ring's nodes said of themselves; all have to know bytes.
        foretold: The plan behind the ring, by what was measured; None where there is none.
    """
    if options.wire == "f16" or not all(I8_BLOCKS in join.encodings for join in joins):
        return F16_SCALED
    if options.wire == "int8":
        return I8_BLOCKS
    return I8_BLOCKS if foretold is not None and foretold.short_rows else F16_SCALED
