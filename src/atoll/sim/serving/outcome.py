"""What a run says of a fleet: how users fared, how busy it was, what it drew and cost."""

from __future__ import annotations

from array import array

import msgspec
import numpy as np

from atoll.forecast.targets import Target
from atoll.sim.serving.pools import Pool
from atoll.sim.serving.run import ServingRun
from atoll.sim.serving.tally import Spread, Tally, spread_of

HOUR_S = 3600.0
SLICES = 60
"""Of a run's time."""


class PartOutcome(msgspec.Struct, frozen=True):
    """What became of a part: shares of time, watts on average over all its machines.

    `busy` is the share of systems' time in which they worked, `up` in which they were there.
    `streams_mean` and `streams_peak` are of one system.
    """

    name: str
    systems: int
    machines: int
    busy: float
    up: float
    streams_mean: float
    streams_peak: int
    watts: float | None
    usd: float | None


class Curves(msgspec.Struct, frozen=True):
    """How times are distributed, and when tokens came.

    `first_token_s` and `token_s` are the least, each hundredth, and the most: 101 values, or none.
    `tokens_per_s` is by slices of `slice_s` seconds, counted in the middle of each answer.
    """

    first_token_s: tuple[float, ...]
    token_s: tuple[float, ...]
    tokens_per_s: tuple[float, ...]
    slice_s: float


class Outcome(msgspec.Struct, frozen=True):
    """What came of a run; null: not known. `within_target` is the share of all requests that
    were answered as fast as was asked for.
    """

    requests: int
    answered: int
    failed: dict[str, int]
    seconds: float
    prompt_tokens: int
    reused_tokens: int
    answer_tokens: int
    tokens_per_s: float
    first_token_s: Spread | None
    token_s: Spread | None
    answer_s: Spread | None
    within_target: float | None
    joules_per_token: float | None
    usd_per_million_tokens: float | None
    events: dict[str, int]
    parts: tuple[PartOutcome, ...]
    curves: Curves


def outcome_of(run: ServingRun, target: Target) -> Outcome:
    """What came of a run that is over."""
    seconds = max(run.last_s, 1e-9)
    parts = tuple(_part(pool, run, seconds) for pool in run.pools)
    run.tally.reused = sum(r.reused for pool in run.pools for r in pool.replicas)
    return outcome_from(run.tally, seconds, target, parts)


def outcome_from(
    tally: Tally, seconds: float, target: Target, parts: tuple[PartOutcome, ...] = ()
) -> Outcome:
    """What times and parts come to; of parts that are not known, neither is what they draw."""
    watts = [part.watts for part in parts] or [None]
    dollars = [part.usd for part in parts] or [None]
    tokens = tally.tokens
    energy = None if None in watts else sum(w for w in watts if w) * seconds
    cost = None if None in dollars else sum(usd for usd in dollars if usd)
    failed = sum(tally.failed.values())
    return Outcome(
        requests=tally.done + failed,
        answered=tally.done,
        failed=dict(tally.failed),
        seconds=seconds,
        prompt_tokens=tally.prompts,
        reused_tokens=tally.reused,
        answer_tokens=tokens,
        tokens_per_s=tokens / seconds,
        first_token_s=spread_of(tally.first_s),
        token_s=spread_of(tally.token_s),
        answer_s=spread_of(tally.whole_s),
        within_target=_within(tally, target, failed),
        joules_per_token=energy / tokens if energy is not None and tokens else None,
        usd_per_million_tokens=1e6 * cost / tokens if cost is not None and tokens else None,
        events=dict(tally.events),
        parts=parts,
        curves=_curves(tally, seconds),
    )


def _curves(tally: Tally, seconds: float) -> Curves:
    slice_s = seconds / SLICES
    if not tally.done:
        return Curves((), (), (0.0,) * SLICES, slice_s)
    first, whole, ended = (
        np.frombuffer(times) for times in (tally.first_s, tally.whole_s, tally.ended_s)
    )
    middles = ended - (whole - first) / 2
    tokens, _ = np.histogram(
        middles, SLICES, (0.0, seconds), weights=np.frombuffer(tally.answers, dtype=np.int64)
    )
    return Curves(
        _hundredths(tally.first_s),
        _hundredths(tally.token_s),
        tuple(float(n) / slice_s for n in tokens),
        slice_s,
    )


def _hundredths(times: array[float]) -> tuple[float, ...]:
    if not times:
        return ()
    return tuple(float(v) for v in np.percentile(np.frombuffer(times), np.arange(101)))


def _within(tally: Tally, target: Target, failed: int) -> float | None:
    """The share of requests within the target; None: there is none, or nobody asked."""
    if not (target.ttft_s or target.tpot_s) or not tally.done + failed:
        return None
    first = np.frombuffer(tally.first_s) if tally.done else np.empty(0)
    whole = np.frombuffer(tally.whole_s) if tally.done else np.empty(0)
    answers = np.frombuffer(tally.answers, dtype=np.int64) if tally.done else np.empty(0)
    fast = np.ones(len(first), dtype=bool)
    if target.ttft_s:
        fast &= first <= target.ttft_s
    if target.tpot_s:
        fast &= whole - first <= target.tpot_s * (answers - 1)
    return float(fast.sum()) / (tally.done + failed)


def _part(pool: Pool, run: ServingRun, seconds: float) -> PartOutcome:
    systems = len(pool.replicas)
    down_s = sum(run.down_s.get(id(replica), 0.0) for replica in pool.replicas)
    up_s = max(1e-9, systems * seconds - down_s)
    busy_s = sum(replica.busy_s for replica in pool.replicas)
    streams_s = sum(replica.streams_s for replica in pool.replicas)
    pace = pool.replicas[0].pace
    watts = None
    if pace.watts[0]:
        idle_s = max(0.0, up_s - busy_s)
        joules = busy_s * pace.watts[0] + idle_s * pace.watts[1] + pool.spare_s * pool.watts
        watts = joules / seconds
    usd = None
    if pace.hourly:
        usd = (up_s * pace.hourly + pool.spare_s * pool.hourly) / HOUR_S
    return PartOutcome(
        name=pool.name,
        systems=systems,
        machines=systems * pool.size,
        busy=min(1.0, busy_s / up_s),
        up=up_s / (systems * seconds),
        streams_mean=streams_s / up_s,
        streams_peak=max(replica.streams_peak for replica in pool.replicas),
        watts=watts,
        usd=usd,
    )
