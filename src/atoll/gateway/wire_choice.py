"""How the rows of a ring travel, where a session is not exact.

Bytes are nearly half of what halves are, and lose more. They pay where sending is what
a prompt waits for; where nodes compute longer at a chunk than any link carries it,
sending goes on beside computing, and costs a prompt next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from atoll.domain.control import Join
from atoll.domain.wire import F16_SCALED, I8_BLOCKS
from atoll.gateway.options import RingOptions
from atoll.plan.report import PlanReport


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
    waits = foretold is not None and foretold.chunk_link_ms > foretold.chunk_ms
    return I8_BLOCKS if waits else F16_SCALED
