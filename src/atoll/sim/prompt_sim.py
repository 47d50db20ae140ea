"""A long prompt beside others in a ring where everything takes its mean time.

The same machines and invariants as in `ring_sim`, without faults or chance: a call
takes a fixed time and one for each row, at every stage and at the ends. So it shows
what sizes of chunks do to the prompt and to those who are answered meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.stage_messages import StageConfig
from atoll.sim.ring_sim import settle
from atoll.sim.scenario import Arrival, ChainSpec, Scenario
from atoll.sim.timed_ring import TimedRing

ROWS_MAX = 512
ASKED_S = 1.0
"""When the prompt comes; the others have been answered for a while."""
PROMPT_ID = SessionId(99)


@dataclass(frozen=True, slots=True)
class Ring:
    """A ring of stages alike, apart from each other, and what is asked of it.

    Times are in seconds: `call_s` for a call of a stage or of the ends, of which a chunk
    takes two, `row_s` and `ends_row_s` for each row in it, `link_s` for a hop.
    """

    chunk_rows: int
    beside_rows: int
    others: int = 4
    others_tokens: int = 200
    prompt: int = 2000
    stages: int = 3
    in_flight: int = 6
    call_s: float = 0.002
    row_s: float = 0.001
    ends_row_s: float = 0.0001
    link_s: float = 0.001


@dataclass(frozen=True, slots=True)
class Entered:
    """The prompt's first token came after `first_s`; no gap of the others' was longer."""

    first_s: float
    gap_s: float


def run_prompt(ring: Ring) -> Entered:
    """Let the prompt enter.

    Raises:
        SimFailure: An invariant was broken.
    """
    sim = TimedRing(_scenario(ring))
    settle(0, sim.chain, sim.check)
    sim.check_settled()
    first_s = sim.told_s[PROMPT_ID][0]
    gaps = [
        after - before
        for session, told in sim.told_s.items()
        if session != PROMPT_ID
        for before, after in pairwise(told)
        if after > ASKED_S and before < first_s
    ]
    return Entered(first_s - ASKED_S, max(gaps, default=0.0))


def _scenario(ring: Ring) -> Scenario:
    n_slots, context = ring.others + 1, ring.prompt + ring.others_tokens + 8
    lanes = ring.stages + 1
    stage = StageConfig(n_slots, context, ROWS_MAX)
    others = [
        GenerateRequest(prompt=(i, i + 1), max_tokens=ring.others_tokens, ignore_eos=True)
        for i in range(ring.others)
    ]
    asked = GenerateRequest(prompt=tuple(range(ring.prompt)), max_tokens=1, ignore_eos=True)
    return Scenario(
        n_layers=ring.stages + 2,
        chain=ChainSpec(
            cuts=tuple(range(1, ring.stages + 2)),
            stages=(stage,) * ring.stages,
            engine_s=ring.call_s,
            link_s=ring.link_s,
            fail_rate=0.0,
            row_s=ring.row_s,
            ends_row_s=ring.ends_row_s,
        ),
        coordinator=CoordinatorConfig(
            n_slots=n_slots,
            context=context,
            rows_max=ROWS_MAX,
            chunk_rows=ring.chunk_rows,
            beside_rows=ring.beside_rows,
            lanes=lanes,
            parallel=ring.stages,
            prefill_in_flight=ring.in_flight,
        ),
        arrivals=(
            *(Arrival(0.01, SessionId(i + 1), other, None) for i, other in enumerate(others)),
            Arrival(ASKED_S, PROMPT_ID, asked, None),
        ),
        outages=(),
        hostile_s=(),
        guess_rate=0.0,
    )
