"""A plan as it is told."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
from tests.conftest import MakeModel
from tests.plan.test_planner import fleet, machine, model

from atoll.domain.ids import ModelId
from atoll.model.architectures import boundaries
from atoll.model.gguf import open_gguf
from atoll.model.manifest import describe
from atoll.plan.fleet import Demand
from atoll.plan.report import PlanReport, model_costs, report


def test_layers_are_counted_in_the_whole_model() -> None:
    of = fleet([machine("a", 5, 8), machine("b", 5, 8)])
    [found] = report(of, model(12), Demand(streams=4), ends=2).rings
    assert (found.stages[0].first, found.stages[-1].last) == (2, 14)
    for before, after in itertools.pairwise(found.stages):
        assert before.last == after.first
    assert sum(stage.need_bytes for stage in found.stages) == 12 * 100 * 1024**2
    assert msgspec.json.decode(msgspec.json.encode(found), type=PlanReport) == found


def test_costs_of_a_real_file(random_model: MakeModel) -> None:
    path: Path = random_model("gemma3")
    gguf = open_gguf(path)
    manifest = describe(gguf, ModelId("a" * 64))
    costs = model_costs(manifest, boundaries(gguf), 1)
    assert costs.n_layers == manifest.n_layers - 2
    assert sum(costs.layer_bytes) == sum(manifest.layer_bytes[1:-1])
    assert costs.boundaries[0] == 0
    assert costs.boundaries[-1] == costs.n_layers
    assert costs.row_bytes == 2 * manifest.n_embd + 1
