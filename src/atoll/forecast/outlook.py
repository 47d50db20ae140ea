"""What is asked of a fleet, and how fast it answers: what all kinds of fleets have in common."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.forecast.constants import Errors
from atoll.forecast.limits import Limit
from atoll.forecast.prices import Paid
from atoll.forecast.shapes import ModelShape

USABLE = 0.9
"""Share of memory for weights and caches."""
KV_BYTES = 2.0
"""Of a cached value: half precision, unless told."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The model, bits of a weight, tokens of a request, and how devices are paid for."""

    shape: ModelShape
    bits: float
    prompt: float
    answer: float
    paid: Paid = "on-demand"

    @property
    def weights(self) -> float:
        """All of the model, bytes."""
        return self.shape.total_params * self.bits / 8

    @property
    def cached(self) -> float:
        """Caches of a stream with all its tokens, in half precision, bytes."""
        return (
            self.shape.kv_values * KV_BYTES * self.shape.cached_positions(self.prompt + self.answer)
        )


@dataclass(frozen=True, slots=True)
class Outlook:
    """How fast a fleet answers, and what it draws meanwhile.

    `token_s` and `first_s` are of a stream alone; `loaded_s` is a token's time with `streams` at
    once. `limit` is what one more would break, None: not known. `watts` is 0 where it is not
    known. Forecasts of `token_s`, of `loaded_s` and of `watts` were off by `alone_error`,
    `error` and `power_error`.
    """

    token_s: float
    first_s: float
    streams: int
    loaded_s: float
    limit: Limit | None
    watts: float
    alone_error: Errors
    error: Errors
    power_error: Errors
    notes: tuple[str, ...] = ()
