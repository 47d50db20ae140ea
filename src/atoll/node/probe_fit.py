"""From the times of two shards to the time of a layer and the overhead of a step.

Pure. A step over n layers takes `overhead + n · layer(rows)`, so the difference
of a long and a short shard holds layers alone. Times are noisy: whatever goes
in, layers take a positive time that does not fall with more rows, and the
overhead is not negative.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from atoll.domain.measure import WindowTime

SECONDS_MIN = 1e-9
"""No layer is faster: clocks do not resolve more."""
SMALL_SIZES = 3
"""The overhead is that of the smallest windows: decoding is made of them."""


@dataclass(frozen=True, slots=True)
class CallTime:
    """What a call with `rows` rows takes, seconds.

    `call_s` from handing the batch over until the answer, `engine_s` of that
    inside the engine.
    """

    rows: int
    call_s: float
    engine_s: float


@dataclass(frozen=True, slots=True)
class Fit:
    """A stage of n layers takes overhead_s + n · seconds(rows)."""

    layer_s: tuple[WindowTime, ...]
    overhead_s: float


def fit(
    short: Sequence[CallTime],
    short_layers: int,
    long: Sequence[CallTime] = (),
    long_layers: int = 0,
) -> Fit:
    """Layer times and overhead.

    Args:
        short: Times of the short shard, at least one, in the order of their rows.
        short_layers: Its layers.
        long: Times of the long shard at the same rows; empty: there was none, and
            all time inside the engine is taken for that of layers.
        long_layers: Its layers, more than the short one's.

    Raises:
        ValueError: The two shards were not timed at the same rows.
    """
    if long and [c.rows for c in long] != [c.rows for c in short]:
        raise ValueError("the shards were timed at different rows")
    pairs = zip(short, long, strict=True) if long else ((call, None) for call in short)
    raw = [_layer(a, short_layers, b, long_layers) for a, b in pairs]
    seconds = rising(raw)
    overheads = []
    for i, layer_s in enumerate(seconds[:SMALL_SIZES]):
        left = [short[i].call_s - short_layers * layer_s]
        if long:
            left.append(long[i].call_s - long_layers * layer_s)
        overheads.append(max(0.0, statistics.fmean(left)))
    times = tuple(WindowTime(c.rows, s) for c, s in zip(short, seconds, strict=True))
    return Fit(times, statistics.median(overheads))


def _layer(short: CallTime, short_layers: int, long: CallTime | None, long_layers: int) -> float:
    """One layer's time at one window size."""
    inside = max(SECONDS_MIN, short.engine_s / short_layers)
    if long is None:
        return inside
    layer_s = (long.call_s - short.call_s) / (long_layers - short_layers)
    if layer_s <= SECONDS_MIN:
        # Noise is larger than what the added layers take: believe the longer shard's engine.
        return max(SECONDS_MIN, long.engine_s / long_layers)
    # More than a call divided by its layers would mean a negative overhead.
    return max(SECONDS_MIN, min(layer_s, long.call_s / long_layers))


def rising(values: Sequence[float]) -> list[float]:
    """The nearest sequence that does not fall, by least squares.

    Source: the pool-adjacent-violators algorithm (Ayer et al., Annals of
    Mathematical Statistics 26, 1955): neighbours out of order become their mean.
    """
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m)]
    return [value for value, count in pools for _ in range(count)]
