"""Draws the pictures of explanation/planning.md from what the planner itself says.

    python -m docs.planning_figures [--check]

A test checks that they are current.
"""

from __future__ import annotations

import sys

import pygal
from docs.charts import chart, text, written

from atoll.domain.measure import WindowTime
from atoll.plan.equal import equal_cut
from atoll.plan.fleet import Demand, Fleet, Gateway, LinkEntry, Machine, ModelCosts
from atoll.plan.planner import plan_ring
from atoll.plan.predict import Placed, Prediction, Predictor

LAYERS = 28
MODEL = ModelCosts((60 << 20,) * LAYERS, (0,) * LAYERS, tuple(range(LAYERS + 1)), 4097)
GIB = 1024**3
MEASURED_MS = (
    (68.5, 69.9),
    (103.2, 102.8),
    (57.9, 54.3),
    (69.1, 69.4),
    (110.8, 111.4),
    (93.2, 99.1),
    (53.3, 56.1),
    (53.5, 54.9),
    (100.7, 102.8),
    (92.5, 99.1),
    (104.9, 110.3),
    (114.4, 113.4),
)
"""Foretold and measured, of one run of `python -m bench plan`."""


def example() -> Fleet:
    """Four machines: quick and near, slow, quick and far, and one between."""

    def machine(name: str, layer_ms: float, gib: float) -> Machine:
        times = tuple(WindowTime(rows, layer_ms / 1e3 * rows**0.8) for rows in (1, 4, 16, 64))
        return Machine(name, int(gib * GIB), times, 0.0006)

    machines = (
        machine("reef", 0.4, 1.9),
        machine("old", 2.4, 8.0),
        machine("far", 0.3, 8.0),
        machine("cove", 0.8, 2.4),
    )
    away_ms = {"reef": 2.0, "old": 4.0, "far": 40.0, "cove": 6.0}
    links = tuple(LinkEntry("gateway", name, ms / 1e3, 12.5e6) for name, ms in away_ms.items())
    return Fleet(Gateway((WindowTime(1, 0.002), WindowTime(64, 0.02))), machines, links)


def time_of_a_token() -> str:
    """Where the time of a token goes: equal parts beside the plan, milliseconds."""
    fleet, demand = example(), Demand()
    predictor = Predictor(fleet, MODEL, demand)
    ranges = equal_cut(LAYERS, 0, len(fleet.machines), range(LAYERS + 1))
    equal = [Placed(i, a, b) for i, (a, b) in enumerate(ranges)]
    rings = {
        "equal parts": predictor.predict(equal),
        "planned": plan_ring(fleet, MODEL, demand).prediction,
    }
    made = chart(pygal.HorizontalStackedBar, "milliseconds of a token")
    made.x_labels = list(rings)
    for name in ("links", "ends", *(machine.name for machine in fleet.machines)):
        made.add(name, [round(_part_ms(name, ring), 2) for ring in rings.values()])
    return text(made)


def _part_ms(name: str, ring: Prediction) -> float:
    if name == "ends":
        return 1e3 * ring.ends_s
    if name == "links":
        return 1e3 * (ring.back_s + sum(stage.link_s for stage in ring.stages))
    return 1e3 * sum(stage.step_s for stage in ring.stages if stage.name == name)


def streams_and_tokens() -> str:
    """Tokens per second by streams: the plan for one stream, and one for each number."""
    fleet, counts = example(), (1, 2, 4, 8, 16)
    alone = plan_ring(fleet, MODEL, Demand()).placement
    kept, fitted = [], []
    for streams in counts:
        demand = Demand(streams=streams, context=256)
        kept.append(Predictor(fleet, MODEL, demand).predict(alone).tokens_per_s)
        fitted.append(plan_ring(fleet, MODEL, demand).prediction.tokens_per_s)
    made = chart(pygal.Line, "tokens per second by streams at once")
    made.x_labels = list(map(str, counts))
    made.add("planned for one", [round(value, 1) for value in kept])
    made.add("planned for so many", [round(value, 1) for value in fitted])
    return text(made)


def foretold_and_measured() -> str:
    """Twelve rings of unequal nodes: what was foretold and what came of it, milliseconds."""
    made = chart(pygal.XY, "foretold (across) and measured (up), ms a token")
    made.stroke = False
    made.add("rings", list(MEASURED_MS))
    top = max(max(pair) for pair in MEASURED_MS)
    made.add("equal", [(50, 50), (top, top)], stroke=True, show_dots=False)
    return text(made)


def figures() -> dict[str, str]:
    """All of them, by file name."""
    return {
        "time-of-a-token.svg": time_of_a_token(),
        "streams.svg": streams_and_tokens(),
        "foretold.svg": foretold_and_measured(),
    }


if __name__ == "__main__":
    sys.exit(written(figures(), sys.argv[1:]))
