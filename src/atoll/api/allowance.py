"""What a key may use: answers at once, tokens a minute, and before whom it goes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PriorityName = Literal["low", "normal", "high"]
PRIORITIES: dict[PriorityName, int] = {"low": -1, "normal": 0, "high": 1}
"""As the ring counts them."""

Count = Annotated[int, Meta(ge=0)]


class Allowance(msgspec.Struct, frozen=True):
    """What an operator allows a key.

    Args:
        streams: Answers at once, those that wait included; 0: no limit but everybody's.
        tokens_per_minute: Tokens of prompts and answers; 0: no limit.
        priority: Where requests wait, higher ones go first.
    """

    streams: Count = 0
    tokens_per_minute: Count = 0
    priority: PriorityName = "normal"

    def changed(
        self,
        streams: int | None = None,
        tokens_per_minute: int | None = None,
        priority: PriorityName | None = None,
    ) -> Allowance:
        """The same but for what is given."""
        return Allowance(
            self.streams if streams is None else streams,
            self.tokens_per_minute if tokens_per_minute is None else tokens_per_minute,
            self.priority if priority is None else priority,
        )
