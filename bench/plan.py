"""Plans against what becomes of them: predictions, planned rings beside equal ones, replanning.

Five nodes on this machine, whose stages run for 35 to 100 % of the time and which are
0 to 25 ms away from a common middle, so links take 0 to 50 ms (`fleet_lab`). What is
predicted comes from what the product itself measured when they joined. The limit of
`planned_over_equal` is what an equal cut wastes; of the errors, this machine's noise.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from atoll.gateway.options import RingOptions
from atoll.members.register import REGISTER_FILE, Register
from atoll.model.architectures import boundaries
from atoll.model.manifest import describe
from atoll.model.parts import open_model
from atoll.plan.equal import equal_cut
from atoll.plan.fleet import Demand, Fleet, Gateway
from atoll.plan.planner import plan_ring
from atoll.plan.predict import Predictor
from atoll.plan.report import model_costs
from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull
from bench import solve
from bench.fleet_lab import Lab, LabNode, open_lab, placed
from bench.local import DEMO_SOURCE, talk

NODES = (
    LabNode("n1", 1.0, 0.0),
    LabNode("n2", 0.6, 0.002),
    LabNode("n3", 0.8, 0.005),
    LabNode("n4", 0.35, 0.012),
    LabNode("n5", 0.5, 0.025),
)
FLEETS = (
    ("n1", "n2", "n3", "n4", "n5"),
    ("n1", "n4", "n5"),
    ("n2", "n3", "n4"),
    ("n1", "n3", "n5", "n4"),
)
"""Of which planned rings are held against equal ones, in the order that the equal one has."""
RING = RingOptions(
    nodes=len(NODES),
    streams=2,
    context=512,
    rows_max=64,
    chunk_rows=64,
    spin=1000,
    plan="auto",
    # A token is foretold to take a step.
    speculate="none",
    reuse=False,
)
PLACEMENTS = 12
TOKENS, ROUNDS = 24, 3
MOST_OF_LAYERS = 0.6
"""No node of a fleet may hold more: one that holds all would be no ring."""
CHANGES = 20
POLL_S, SEEN_S = 0.05, 1.5
LIMIT_S = 900
Parts = list[tuple[str, int, int]]


def some_placement(rng: random.Random, first: int, last: int) -> Parts:
    """Three to five nodes in some order, cut somewhere."""
    names = rng.sample([node.name for node in NODES], rng.randint(3, 5))
    cuts = sorted(rng.sample(range(first + 1, last), len(names) - 1))
    ends = [first, *cuts, last]
    return list(zip(names, ends[:-1], ends[1:], strict=True))


class _Plans:
    """What plans are made with, as the gateway makes them."""

    def __init__(self, lab: Lab, model: FoundModel) -> None:
        gguf = open_model(model.path)
        self.manifest = describe(gguf, model.model)
        self.cuts = boundaries(gguf)
        self.costs = model_costs(self.manifest, self.cuts, RING.ends)
        self._lab = lab

    def fleet(self, names: Sequence[str], most: float = 1.0) -> Fleet:
        """The fleet of these nodes, each as large as `most` of the layers need."""
        times = self._lab.times()
        need = sum(self.costs.layer_bytes) + sum(self.costs.kv_cell_bytes) * 1024
        memory = int((most * need + (170 << 20)) / 0.8)
        # They share this machine, but one stage works at a time: no contention to plan for.
        machines = tuple(
            msgspec.structs.replace(times.machines[name], host=name, memory_bytes=memory)
            for name in names
        )
        known = {"gateway", *names}
        links = tuple(e for e in times.links if e.source in known and e.target in known)
        return Fleet(Gateway(times.ends_s), machines, links)

    def predicted_s(self, parts: Parts) -> float:
        """Time per token of a lone stream."""
        names = [node.name for node in NODES]
        predictor = Predictor(self.fleet(names), self.costs, Demand(context=512))
        return predictor.predict(placed(parts, names, RING.ends)).token_s

    def planned(self, names: Sequence[str]) -> Parts:
        """The planner's ring of these nodes."""
        demand = Demand(context=512, slots=2)
        plan = plan_ring(self.fleet(names, MOST_OF_LAYERS), self.costs, demand)
        return [(names[p.machine], p.first + RING.ends, p.last + RING.ends) for p in plan.placement]

    def equal(self, names: Sequence[str]) -> Parts:
        """The ring of equal parts."""
        ranges = equal_cut(self.manifest.n_layers, RING.ends, len(names), self.cuts)
        return [(name, a, b) for name, (a, b) in zip(names, ranges, strict=True)]


async def _placements(lab: Lab, plans: _Plans) -> dict[str, Any]:
    rng, errors, seen = random.Random(1), [], []
    for number in range(PLACEMENTS):
        parts = some_placement(rng, RING.ends, plans.manifest.n_layers - RING.ends)
        await lab.ring(parts)
        predicted_s, token_s = plans.predicted_s(parts), await lab.token_s(TOKENS, ROUNDS)
        errors.append(abs(predicted_s - token_s) / token_s)
        seen.append([round(1e3 * predicted_s, 1), round(1e3 * token_s, 1)])
        talk(f"placement {number + 1}: {seen[-1][0]} ms predicted, {seen[-1][1]} ms a token")
    return {
        "prediction_error_median": round(statistics.median(errors), 3),
        "prediction_error_worst": round(max(errors), 3),
        "placements_ms": seen,
    }


async def _planned_over_equal(lab: Lab, plans: _Plans) -> dict[str, Any]:
    ratios = []
    for names in FLEETS:
        seconds = []
        for parts in (plans.planned(names), plans.equal(names)):
            await lab.ring(parts)
            seconds.append(await lab.token_s(TOKENS, ROUNDS))
        ratios.append(round(seconds[1] / seconds[0], 3))
        talk(f"{', '.join(names)}: planned {ratios[-1]} times as fast as equal")
    return {"planned_over_equal": statistics.median(ratios), "planned_over_equal_each": ratios}


async def _replan(lab: Lab, register: Register) -> dict[str, Any]:
    """Nodes rest and come back while two clients ask without a pause."""
    status, lost, streams = lab.gateway.status, 0, 0
    done = asyncio.Event()

    async def ask_on() -> None:
        nonlocal lost, streams
        while not done.is_set():
            streams += 1
            try:
                await lab.token_s(16, 1)
            except Exception as error:  # noqa: BLE001 - counted, whatever it is
                talk(f"a stream was hurt: {error}")
                lost += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(ask_on(), name="ask on")
        for change in range(CHANGES // 2):
            before, name = status().rings[0].epoch, status().rings[0].stages[change % 2].name
            register.rest(name, resting=True)
            while not (status().rings[0].epoch > before and status().ready):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            register.rest(name, resting=False)
            # The gateway looks once a second: it has to see that the node is back.
            await asyncio.sleep(SEEN_S)
        done.set()
    return {"replan_lost": lost, "replan_streams": streams, "replan_changes": CHANGES}


async def _all(model: FoundModel, store: Store) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as name:
        async with open_lab(model, store, Path(name), NODES, RING) as lab:
            plans = _Plans(lab, model)
            found = await _placements(lab, plans)
            found |= await _planned_over_equal(lab, plans)
    same = [LabNode(f"r{i}", 1.0, 0.0) for i in range(3)]
    ring = replace(RING, nodes=2, plan="equal")
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as name:
        folder = Path(name)
        async with open_lab(model, store, folder, same, ring, by_hand=False) as lab:
            found |= await _replan(lab, Register(folder / "gateway" / REGISTER_FILE))
    return found


def run() -> dict[str, Any]:
    """All figures of planning."""
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    talk("solving ...")
    found = solve.run()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return found | runner.run(asyncio.wait_for(_all(model, store), LIMIT_S))
