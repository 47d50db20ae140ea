"""Many runs: other fleets, rates and seeds, over all cores of this machine, or of many.

A case holds all that its run needs, so that it can go to another process or machine; its
outcome depends on it alone.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from atoll.domain.errors import AtollError, BadRequest
from atoll.forecast.constants import Constants, shipped_fit
from atoll.forecast.fleet_file import Fleet
from atoll.forecast.outlook import KV_BYTES, Workload
from atoll.forecast.systems import rings_of
from atoll.forecast.targets import Target
from atoll.sim.serving.arrivals import Arrivals, arrive
from atoll.sim.serving.machines import run_machines
from atoll.sim.serving.outcome import Outcome, outcome_from, outcome_of
from atoll.sim.serving.pools import pools_of
from atoll.sim.serving.requests import Request
from atoll.sim.serving.run import ServingRun
from atoll.sim.serving.tally import Tally

Detail = Literal["steps", "machines"]
NO_TARGET = Target()
Heard = Callable[[float, int], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One run: a fleet, the model and mean lengths, requests or how they come, and a seed.

    `detail` says whether rings are run by their paces, or by the system's own machines;
    `patience_s` is how long a request waits for its turn at most.
    """

    fleet: Fleet
    work: Workload
    requests: Arrivals | tuple[Request, ...]
    target: Target = NO_TARGET
    seed: int = 0
    detail: Detail = "steps"
    patience_s: float = math.inf


def run_case(case: Case, heard: Heard | None = None) -> Outcome:
    """Run one.

    Raises:
        BadRequest: Its fleet cannot hold the model.
    """
    constants = shipped_fit().constants
    if case.detail == "machines":
        return _run_machines(case, constants)
    pools = pools_of(case.fleet, case.work, constants, case.patience_s)
    rate = case.fleet.handover_rate
    shape = case.work.shape
    cell = shape.kv_values * KV_BYTES * shape.cached_positions(1.0)
    run = ServingRun(
        *(pools, _requests(case)), seed=case.seed, cell_s=cell / rate if rate else 0.0, heard=heard
    )
    run.run()
    return outcome_of(run, case.target)


def _requests(case: Case) -> Iterator[Request]:
    found = case.requests
    return arrive(found, case.seed) if isinstance(found, Arrivals) else iter(found)


def _run_machines(case: Case, constants: Constants) -> Outcome:
    """Rings alike, each as its own coordinator and stages; they get requests in turn."""
    part, *others = case.fleet.parts
    is_plain = not part.leave and not part.drafts.depth and part.role == "all"
    if others or not part.is_rings or not is_plain:
        raise BadRequest(
            "the system's own machines are run for rings of one kind, that nobody leaves, "
            "without drafts",
            hint="leave out the detail, or the other parts",
        )
    ring, count, _ = rings_of(part, case.work)
    requests = list(_requests(case))
    tally = Tally()
    for first in range(count):
        mine = requests[first::count]
        if mine:
            tally.add(run_machines(ring, mine, constants))
    return outcome_from(tally, max(tally.ended_s, default=0.0) or 1e-9, case.target)


def sweep(cases: Sequence[Case], *, workers: int, heard: Callable[[int], None]) -> list[Outcome]:
    """Run cases, as many beside each other as there are workers.

    Args:
        cases: The runs.
        workers: Processes; with one, all is done in this one.
        heard: Told how many are done.

    Returns:
        Their outcomes, in the order of the cases.

    Raises:
        BadRequest: A fleet cannot hold the model.
    """
    found: list[Outcome] = []
    with ExitStack() as stack:
        if workers > 1 and len(cases) > 1:
            # Processes that begin afresh: nothing of this one's threads is copied.
            fresh = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(min(workers, len(cases)), mp_context=fresh)
            stack.callback(pool.shutdown, cancel_futures=True)
            outcomes: Iterator[Outcome] = iter(pool.map(run_case, cases))
        else:
            outcomes = map(run_case, cases)
        for outcome in outcomes:
            found.append(outcome)
            heard(len(found))
    return found


def sweep_on_ray(
    cases: Sequence[Case], *, address: str, heard: Callable[[int], None]
) -> list[Outcome]:
    """Run cases on a Ray cluster; its machines need this package.

    Args:
        cases: The runs.
        address: Of the cluster, as `ray.init` takes it; `local`: one on this machine.
        heard: Told how many are done.

    Raises:
        AtollError: Ray is not installed, or the cluster cannot be reached.
        BadRequest: A fleet cannot hold the model.
    """
    try:
        import ray  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise AtollError(
            "Ray is not installed", hint="pip install 'atoll[ray]', or leave out --ray"
        ) from error
    # It would report what it is used for, to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here: dict[str, Any] = {}
    if address == "local":
        here = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, **here)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise AtollError(f"no Ray cluster at {address!r}: {error}") from error
    try:
        remote: Any = ray.remote(run_case)
        waiting = [remote.remote(case) for case in cases]
        left = waiting
        while left:
            _, left = ray.wait(left)
            heard(len(cases) - len(left))
        found: list[Outcome] = ray.get(waiting)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, AtollError) else error) from error
    finally:
        ray.shutdown()
    return found
