"""A ring of machines that need not be there, run by the system's own coordinator and stages.

The same state machines as in a live ring, over a model of hashes, under a clock: calls of
engines take what the cost models say of each machine, frames what the way takes. It is slower
than a `Replica` by far, and shows whether that one's shortcuts hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId
from atoll.forecast.constants import Constants
from atoll.forecast.decode import prompt_s, rows_s, token_s
from atoll.forecast.ring_paces import KV_BITS, SLOTS_MAX, STACK, Ring, read_rate, share_layers
from atoll.forecast.spread import distance_s
from atoll.ring.coordinator_config import BESIDE_ROWS, CHUNK_ROWS, CHUNK_ROWS_MAX, CoordinatorConfig
from atoll.ring.stage_messages import BatchItem, StageConfig
from atoll.sim.scenario import Arrival, ChainSpec, Scenario
from atoll.sim.serving.requests import Request
from atoll.sim.serving.tally import Tally
from atoll.sim.timed_ring import TimedRing

ENDS_S = 1e-6
"""Of a call of the gateway's ends: all layers are counted on the machines."""
STEP = 3
"""Between sessions' numbers: in this simulation every third client is slow to read."""


class _Calls:
    """Engine times of a ring's machines.

    Args:
        ring: The machines.
        constants: What was fitted.
    """

    def __init__(self, ring: Ring, constants: Constants) -> None:
        shape = ring.shape
        self._shape = shape
        self._constants = constants
        self._runs = [ring.run(device) for device in ring.devices]
        self._shares = [n / shape.layers for n in share_layers(ring, constants)]
        cell = shape.kv_values * KV_BITS / 8
        self._position_s = [cell / read_rate(run, constants) for run in self._runs]
        self._known: dict[tuple[int, int, bool], float] = {}

    def stage_s(self, stage: int, items: tuple[BatchItem, ...]) -> float:
        """Of a stage: a prompt's window is computed as prompts are, other rows as tokens are."""
        rows = sum(item.rows for item in items)
        is_prompt = rows > len(items)
        seconds = self._rows_s(stage, rows, is_prompt)
        if not is_prompt:
            seen = sum(self._shape.cached_positions(item.keep + item.rows) for item in items)
            seconds += seen * self._position_s[stage]
        return self._shares[stage] * seconds

    def _rows_s(self, stage: int, rows: int, is_prompt: bool) -> float:
        """Of all layers, without caches."""
        key = (stage, rows, is_prompt)
        if key not in self._known:
            run, constants = self._runs[stage], self._constants
            if is_prompt:
                alone_s = token_s(run, constants)
                self._known[key] = max(alone_s, prompt_s(run, rows, constants))
            else:
                self._known[key] = rows_s(run, rows, constants)
        return self._known[key]

    def ends_s(self, rows: int) -> float:
        """Of the gateway's ends."""
        return ENDS_S * (rows > 0)


def run_machines(ring: Ring, requests: Sequence[Request], constants: Constants) -> Tally:
    """Let a ring's machines answer requests.

    Args:
        ring: Its machines; ways between them are alike.
        requests: In the order in which they come.
        constants: What was fitted.

    Raises:
        SimFailure: An invariant of the machines was broken.
        BadRequest: The machines cannot hold the model.
    """
    sim = TimedRing(_scenario(ring, requests, constants))
    for happening in sim.chain.heap:
        happening()
    sim.check_settled()
    tally = Tally()
    for number, request in enumerate(requests):
        told = sim.told_s[_session(number)]
        assert len(told) == request.answer, "an answer is not whole"
        tally.prompts += request.prompt
        tally.answered(request.at_s, told[0], told[-1], request.answer)
    return tally


def _session(number: int) -> SessionId:
    return SessionId(STEP * number + 1)


def _scenario(ring: Ring, requests: Sequence[Request], constants: Constants) -> Scenario:
    n = len(ring.devices)
    context = max(request.prompt + request.answer for request in requests) + 1
    stage = StageConfig(SLOTS_MAX, context, CHUNK_ROWS_MAX)
    way_s = distance_s(ring.devices, ring.ways_s, STACK, constants)
    arrivals = tuple(
        Arrival(
            request.at_s,
            _session(number),
            GenerateRequest(
                prompt=tuple(range(number, number + request.prompt)),
                max_tokens=request.answer,
                ignore_eos=True,
            ),
            None,
        )
        for number, request in enumerate(requests)
    )
    return Scenario(
        n_layers=n + 2,
        chain=ChainSpec(
            cuts=tuple(range(1, n + 2)),
            stages=(stage,) * n,
            engine_s=ENDS_S,
            # From the gateway to the first machine is a way, too.
            link_s=way_s / (n + 1),
            fail_rate=0.0,
            calls=_Calls(ring, constants),
        ),
        coordinator=CoordinatorConfig(
            n_slots=SLOTS_MAX,
            context=context,
            rows_max=CHUNK_ROWS_MAX,
            chunk_rows=CHUNK_ROWS,
            beside_rows=BESIDE_ROWS,
            waiting_max=len(requests),
            lanes=n + 1,
            parallel=n,
        ),
        arrivals=arrivals,
        outages=(),
        hostile_s=(),
        guess_rate=0.0,
    )
