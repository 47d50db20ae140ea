"""Whether the machines of a ring compute the bits that were computed before.

Exact answers are the same with and without failures where who takes a part computes its
bits (`domain.bits`). What the first machine with a part came to is held against the others
that have it later, in any ring.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.domain.bits import Bits
from atoll.domain.control import StagePlan
from atoll.members.member import Member


class NumericClasses:
    """The class of each part of the model, since the gateway runs."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int], tuple[str, Bits]] = {}

    def problem(self, stages: Sequence[StagePlan], members: Sequence[Member]) -> str:
        """Why exact answers may differ from earlier ones; who has a part first sets its class.

        Args:
            stages: Who has which part.
            members: Their nodes, in this order.

        Returns:
            A sentence for people; empty where nothing speaks against it. Parts that nobody
            had before, as cuts lie elsewhere, cannot be compared.
        """
        problems = []
        for stage, member in zip(stages, members, strict=True):
            bits = member.ready.bits if member.ready is not None else None
            if bits is None:
                continue
            name, first = self._first.setdefault((stage.first, stage.last), (stage.name, bits))
            if first.digest != bits.digest:
                layers = f"layers {stage.first} to {stage.last - 1}"
                problems.append(f"{stage.name} computes other bits for {layers} than {name}")
        return "; ".join(problems)
