"""What a seed decides beforehand about a run of the whole system."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

from atoll.domain.generation import GenerateRequest
from atoll.world.engines import Pace

FaultKind = Literal[
    "crash",
    "power",
    "restart",
    "engine",
    "partition",
    "one-way",
    "way",
    "slow",
    "disk",
    "clock",
    "liar",
    "gateway crash",
    "gateway restart",
]
FAULTS: tuple[FaultKind, ...] = (
    *("crash", "power", "restart", "engine", "engine", "partition", "one-way", "way", "slow"),
    *("disk", "clock", "liar", "gateway crash", "gateway restart"),
)
BEGIN_S = 3.0
"""Sessions come, and faults begin, from then on."""
HORIZON_S = 8.0
"""And until so much later."""
LONG_S = 50.0
"""Longer than any session may take."""
AFTERMATH_S = 15.0
"""What a fault breaks breaks so long after its end at most."""
CALM_S = 2.0
"""From the end of the last fault until everything has to work again."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong at `at_s` with a machine, for `lasts_s`.

    `machine` is a node's number; `other` is that of another one, or -1 for the gateway;
    `size` says how bad it is, where that can differ.
    """

    at_s: float
    kind: FaultKind
    machine: int
    other: int
    lasts_s: float
    size: float


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks at `at_s`, and leaves after `leave_tokens` tokens if that is set."""

    at_s: float
    request: GenerateRequest
    leave_tokens: int | None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A gateway, nodes, who asks, and what befalls them."""

    n_layers: int
    nodes: int
    places: int
    planned: bool
    rings: int
    streams: int
    waiting: int
    context: int
    reuse: bool
    keeps_bytes: int
    guesses: bool
    exact: bool
    pace: Pace
    way_s: float
    clients: tuple[Client, ...]
    faults: tuple[Fault, ...]
    idle_s: float
    """How long nobody asks at the end, before somebody does again."""

    def blames(self, at_s: float) -> bool:
        """Whether some fault may be why a ring broke at that time."""
        return any(f.at_s <= at_s <= f.at_s + f.lasts_s + AFTERMATH_S for f in self.faults)


def make_scenario(rng: random.Random) -> Scenario:
    """Draw one: small, so that a run takes a moment, and limits are met often."""
    places = rng.randint(1, 3)
    nodes = places + rng.choice((0, 0, 1, 2))
    context = rng.randint(16, 48)
    planned = rng.random() < 0.25
    faults = [_fault(rng, nodes) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4)))]
    if faults and nodes > places and faults[0].kind in ("power", "partition"):
        # Others have to take over: nobody could wait for this one.
        faults[0] = replace(faults[0], lasts_s=rng.choice((faults[0].lasts_s, LONG_S)))
    return Scenario(
        n_layers=places + 2 + rng.randint(0, 3),
        nodes=nodes,
        places=places,
        planned=planned,
        rings=rng.choice((1, 1, 2)),
        streams=rng.randint(1, 4),
        waiting=rng.choice((0, 2, 8)),
        context=context,
        reuse=rng.random() < 0.7,
        keeps_bytes=rng.choice((0, 2_000, 1_000_000)),
        guesses=rng.random() < 0.5,
        exact=rng.random() < 0.2,
        pace=Pace(
            load_s=rng.choice((0.05, 1.0)),
            # The ends are timed for a second: of quick ones that would be most of a run.
            call_s=0.02 if planned else rng.choice((0.002, 0.02)),
            row_s=rng.choice((0.0, 0.002)),
        ),
        way_s=rng.choice((0.0005, 0.01, 0.06)),
        clients=_clients(rng, context),
        faults=tuple(sorted(faults, key=lambda fault: fault.at_s)),
        idle_s=rng.choice((0.0, 0.0, 0.0, 10.0)),
    )


def _fault(rng: random.Random, nodes: int) -> Fault:
    return Fault(
        at_s=BEGIN_S + rng.uniform(0, HORIZON_S),
        kind=rng.choice(FAULTS),
        machine=rng.randrange(nodes),
        other=rng.randrange(-1, nodes),
        lasts_s=rng.choice((0.3, rng.uniform(1, 4), rng.uniform(3, 9))),
        size=rng.random(),
    )


def _clients(rng: random.Random, context: int) -> tuple[Client, ...]:
    first = [_client(rng, context) for _ in range(rng.randint(1, 6))]
    return (*first, *(_next_turn(rng, one, context) for one in first if rng.random() < 0.4))


def _client(rng: random.Random, context: int) -> Client:
    prompt = rng.randint(1, context // 2)
    tokens = [rng.randrange(1, 1000) for _ in range(prompt)]
    if rng.random() < 0.5:
        alike = rng.randint(0, prompt)
        tokens[:alike] = range(1, alike + 1)
    request = GenerateRequest(
        prompt=tuple(tokens),
        max_tokens=rng.choice((1, rng.randint(2, 8), rng.randint(8, 32))),
        ignore_eos=rng.random() < 0.7,
        exact=rng.random() < 0.1,
        group=rng.choice(("", "", "others")),
    )
    leaves = rng.randint(0, 6) if rng.random() < 0.2 else None
    return Client(BEGIN_S + rng.uniform(0, HORIZON_S), request, leaves)


def _next_turn(rng: random.Random, before: Client, context: int) -> Client:
    more = tuple(rng.randrange(1, 1000) for _ in range(rng.randint(1, 4)))
    prompt = (*before.request.prompt, *more)[: context - 1]
    request = replace(before.request, prompt=prompt, max_tokens=rng.randint(1, 6))
    return Client(before.at_s + rng.uniform(0.5, 4), request, None)
