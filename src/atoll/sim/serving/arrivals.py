"""Requests made up: they come by chance at a mean rate, with lengths that differ."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.sim.serving.requests import Request

REQUESTS_MAX = 20_000_000
LENGTH_MAX = 10_000_000


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`rate` requests a second for `seconds`, with mean lengths in tokens.

    Times between requests are gamma distributed with a coefficient of variation of
    `burstiness` (1: a Poisson process). Lengths are lognormal with a standard deviation of the
    logarithm of `spread` (0: all alike).
    """

    rate: float
    seconds: float
    prompt: float
    answer: float
    spread: float = 0.0
    burstiness: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.rate < float("inf") and 0 < self.seconds < float("inf")):
            raise BadRequest("requests come at a rate, for a time", hint="write 5/s, and 10 min")
        if self.rate * self.seconds > REQUESTS_MAX:
            raise BadRequest(
                f"{self.rate * self.seconds:,.0f} requests are more than {REQUESTS_MAX:,}",
                hint="simulate a shorter time",
            )
        if not (1 <= self.prompt <= LENGTH_MAX and 1 <= self.answer <= LENGTH_MAX):
            raise BadRequest(f"prompts and answers have 1 to {LENGTH_MAX:,} tokens")
        if not (0 <= self.spread <= 4 and 0 < self.burstiness <= 100):
            raise BadRequest("lengths spread by 0 to 4, and bursts are above 0, up to 100")


def arrive(arrivals: Arrivals, seed: int) -> Iterator[Request]:
    """The requests, in the order in which they come."""
    rng = random.Random(seed)  # noqa: S311 - a replayable scenario, nothing secret
    shape = 1 / arrivals.burstiness**2
    mean_s = 1 / arrivals.rate
    at_s = 0.0
    while True:
        at_s += rng.gammavariate(shape, mean_s / shape)
        if at_s > arrivals.seconds:
            return
        prompt = _length(rng, arrivals.prompt, arrivals.spread)
        yield Request(at_s, prompt, _length(rng, arrivals.answer, arrivals.spread))


def _length(rng: random.Random, mean: float, spread: float) -> int:
    if not spread:
        return max(1, round(mean))
    # The mean of a lognormal lies above its median by half its variance.
    middle = math.log(mean) - spread**2 / 2
    return min(LENGTH_MAX, max(1, round(rng.lognormvariate(middle, spread))))
