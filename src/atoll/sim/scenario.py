"""Scenario: everything about a simulated run that its seed decides beforehand."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Protocol

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.parking import Parking, ParkingRates
from atoll.ring.stage_messages import BatchItem, StageConfig

HORIZON_S = 2.0
"""Sessions, cancels, crashes and hostile frames begin within this time."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A session that is submitted at `at_s`, and given up at `cancel_s` if that is set."""

    at_s: float
    session: SessionId
    request: GenerateRequest
    cancel_s: float | None


@dataclass(frozen=True, slots=True)
class Outage:
    """`stage` dies at `at_s`; the gateway hears of it `detect_s` later, if at all.

    Every stage is on the new epoch within `repair_s` of the crash. `also` dies with it.
    `goes_on`: the others keep what they hold, and the gateway its sessions.
    """

    at_s: float
    stage: int
    detect_s: float | None
    repair_s: float
    also: int | None = None
    goes_on: bool = False

    @property
    def lost(self) -> set[int]:
        """The stages that die."""
        return {self.stage} | ({self.also} if self.also is not None else set())


class CallTimes(Protocol):
    """How long calls of engines take, where machines differ; seconds."""

    def stage_s(self, stage: int, items: tuple[BatchItem, ...]) -> float:
        """Of a stage."""
        ...

    def ends_s(self, rows: int) -> float:
        """Of the gateway's ends."""
        ...


@dataclass(frozen=True, slots=True)
class ChainSpec:
    """Stages in ring order; stage i computes layers [cuts[i], cuts[i + 1])."""

    cuts: tuple[int, ...]
    stages: tuple[StageConfig, ...]
    engine_s: float
    link_s: float
    """Mean times of an engine call and of a hop."""
    fail_rate: float
    """Share of engine items that fail."""
    row_s: float = 0.0
    ends_row_s: float = 0.0
    """Mean time that a row adds to a call of a stage, and to one of the ends."""
    lose_rate: float = 0.0
    """Share of steps with a parcel at which it gets lost."""
    calls: CallTimes | None = None
    """Times of calls in place of `engine_s`, `row_s` and `ends_row_s`."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One ring, its limits, what is asked of it and what happens to it.

    The gateway computes what lies before the first and behind the last cut of
    the chain.
    """

    n_layers: int
    chain: ChainSpec
    coordinator: CoordinatorConfig
    arrivals: tuple[Arrival, ...]
    outages: tuple[Outage, ...]
    hostile_s: tuple[float, ...]
    """When a hostile frame is pushed in somewhere."""
    guess_rate: float
    """Share of guesses that are right, where tokens are guessed."""
    away_s: float = 0.0
    """What a lap is said to take more than it does: whether guesses pay depends on it."""
    ticks_s: tuple[float, ...] = ()
    """When what rests grows older."""
    draft_gone_s: float | None = None
    """When the draft model is lost for good, if ever."""


def make_scenario(rng: random.Random) -> Scenario:
    """Draw a scenario: small, so that limits are met often."""
    n_stages = rng.randint(1, 4)
    n_layers = n_stages + 2 + rng.randint(0, 2)
    inner = sorted(rng.sample(range(2, n_layers - 1), n_stages - 1))
    context = rng.randint(10, 40)
    n_slots = rng.randint(1, 6)
    chunk = rng.randint(1, 8)
    exact_chunk = rng.randint(1, chunk)
    rows_max = rng.randint(chunk, 12)
    # One number per hop, the one back to the gateway last.
    credits = [rng.choice((1, 2, 4, 8, 16, 16)) for _ in range(n_stages + 1)]
    coordinator = _coordinator(
        rng,
        n_slots=n_slots,
        context=context,
        rows_max=rows_max,
        chunks=(chunk, exact_chunk),
        credits=(credits[0], credits[-1]),
        n_stages=n_stages,
    )
    stages = tuple(
        StageConfig(
            n_slots=n_slots,
            context=context,
            rows_max=rows_max,
            exact_rows_max=exact_chunk,
            credits=credits[i],
            downstream_credits=credits[i + 1],
            queue_max=credits[i] + rng.choice((0, 4)),
            outbox_max=rng.choice((1, 2, 8)),
            light_rows=rng.choice((1, 2, 4)),
        )
        for i in range(n_stages)
    )
    # Far enough apart for one to be repaired before the next.
    outages = tuple(
        Outage(
            at_s=rng.uniform(0.35, 1.0) + i * 1.5,
            stage=rng.randrange(n_stages),
            detect_s=rng.choice((None, 0.0, rng.uniform(0, 0.2))),
            repair_s=rng.uniform(0.02, 0.6),
            also=rng.choice((None, None, rng.randrange(n_stages))),
            goes_on=rng.random() < 0.7,
        )
        for i in range(rng.choice((0, 0, 0, 1, 1, 2)))
    )
    hostile = rng.choice((0, 0, 3, 12))
    lose_rate = rng.choice((0.0, 0.3))
    tick_s = rng.choice((0.1, 0.3, 1.0))
    return Scenario(
        n_layers=n_layers,
        chain=ChainSpec(
            cuts=(1, *inner, n_layers - 1),
            stages=stages,
            engine_s=rng.choice((0.002, 0.02)),
            link_s=rng.choice((0.001, 0.02)),
            fail_rate=rng.choice((0.0, 0.0, 0.0, 0.02)),
            lose_rate=lose_rate,
        ),
        coordinator=coordinator,
        arrivals=_arrivals(rng, context),
        outages=outages,
        hostile_s=tuple(rng.uniform(0, HORIZON_S) for _ in range(hostile)),
        guess_rate=rng.choice((0.0, 0.5, 0.9, 1.0)),
        away_s=rng.choice((0.0, 0.3)),
        ticks_s=tuple(i * tick_s for i in range(1, int(2 * HORIZON_S / tick_s))),
        draft_gone_s=rng.uniform(0, HORIZON_S) if rng.random() < 0.1 else None,
    )


def _coordinator(
    rng: random.Random,
    *,
    n_slots: int,
    context: int,
    rows_max: int,
    chunks: tuple[int, int],
    credits: tuple[int, int],
    n_stages: int,
) -> CoordinatorConfig:
    """The gateway's limits. `chunks` are of both modes, `credits` of both ends."""
    return CoordinatorConfig(
        n_slots=n_slots,
        context=context,
        rows_max=rows_max,
        chunk_rows=chunks[0],
        exact_chunk_rows=chunks[1],
        beside_rows=rng.randint(0, chunks[0]),
        waiting_max=rng.choice((0, 4, 14, 14)),
        lanes=rng.choice((1, 1, 2, n_stages + 1)),
        prefill_in_flight=rng.randint(1, 4),
        credits=credits[0],
        return_credits=credits[1],
        guess_rows=rng.randint(1, 5),
        guess_depth=rng.choice((0, 0, 2, 5, 12)),
        draft_model=rng.random() < 0.5,
        reuse=rng.random() < 0.7,
        reuse_min=rng.choice((1, 1, 4)),
        parking=_parking(rng, context) if rng.random() < 0.7 else None,
    )


def _parking(rng: random.Random, context: int) -> Parking:
    """Sometimes all is worth it, sometimes only long or well-shared beginnings are."""
    rates = ParkingRates(
        bytes_per_token=8,
        tier_bytes_s=rng.choice((1e9, 1e9, 160.0)),
        prefill_tokens_s=10,
        lap_s=rng.choice((0.0, 0.0, 0.3)),
    )
    return Parking(
        rates,
        held_max=rng.choice((context // 2, 3 * context, 100 * context)),
        tokens_max=rng.choice((context // 2, context, context)),
    )


def _arrivals(rng: random.Random, context: int) -> tuple[Arrival, ...]:
    """Bursts, so that sessions meet in flights and batches; some come back with more to say."""
    bursts_s = [0.01, rng.uniform(0, HORIZON_S), rng.uniform(0, HORIZON_S)]
    # Mostly few, which is quick: what takes a crowd to show comes often enough.
    crowd = rng.randint(*rng.choice(((1, 2), (1, 2), (1, 3), (2, 4), (2, 5), (3, 6), (8, 14))))
    first = [_arrival(rng, i, context, bursts_s) for i in range(crowd)]
    return (*first, *(_next_turn(rng, a, context) for a in first if rng.random() < 0.5))


def _arrival(rng: random.Random, index: int, context: int, bursts_s: list[float]) -> Arrival:
    at_s = rng.choice(bursts_s) if rng.random() < 0.8 else rng.uniform(0, HORIZON_S)
    prompt = rng.randint(1, context + 1) if rng.random() < 0.2 else rng.randint(1, context // 2)
    tokens = [rng.randrange(1, 1000) for _ in range(prompt)]
    if rng.random() < 0.6:
        # Many begin alike, up to somewhere.
        alike = rng.randint(0, prompt)
        tokens[:alike] = range(1, alike + 1)
    request = GenerateRequest(
        prompt=tuple(tokens),
        group=rng.choice(("", "", "others")),
        priority=index % 3 - 1,
        max_tokens=rng.choice((1, rng.randint(2, 6), rng.randint(4, 16))),
        exact=rng.random() < 0.2,
        ignore_eos=rng.random() < 0.6,
    )
    cancel_s = at_s + rng.expovariate(4) if rng.random() < 0.3 else None
    return Arrival(at_s, SessionId(1000 + index), request, cancel_s)


def _next_turn(rng: random.Random, before: Arrival, context: int) -> Arrival:
    """The same conversation goes on: what was asked before, and more."""
    prompt = (*before.request.prompt, *(rng.randrange(1, 1000) for _ in range(rng.randint(1, 6))))
    request = replace(before.request, prompt=prompt[:context], max_tokens=rng.randint(1, 6))
    at_s = before.at_s + rng.uniform(0.2, 2 * HORIZON_S)
    cancel_s = at_s + rng.expovariate(4) if rng.random() < 0.2 else None
    return Arrival(at_s, SessionId(before.session + 1000), request, cancel_s)
