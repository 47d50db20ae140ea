"""A plan as it is told."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
from tests.conftest import MakeModel
from tests.plan.test_planner import fleet, machine, model

from atoll.domain.ids import ModelId
from atoll.domain.wire import I8_BLOCKS, row_bytes
from atoll.model.architectures import boundaries
from atoll.model.gguf import open_gguf
from atoll.model.manifest import describe
from atoll.plan.fleet import Demand, LinkEntry
from atoll.plan.report import PlanReport, model_costs, report


def test_layers_are_counted_in_the_whole_model() -> None:
    of = fleet([machine("a", 5, 8), machine("b", 5, 8)])
    [found] = report(of, model(12), Demand(streams=4), ends=2).rings
    assert (found.stages[0].first, found.stages[-1].last) == (2, 14)
    for before, after in itertools.pairwise(found.stages):
        assert before.last == after.first
    assert sum(stage.need_bytes for stage in found.stages) == 12 * 100 * 1024**2
    assert msgspec.json.decode(msgspec.json.encode(found), type=PlanReport) == found


def test_every_link_is_told_by_its_ends() -> None:
    """What a stage's window takes on the way to it is what its link is told to take."""
    links = (
        LinkEntry("gateway", "a", 0.020, 1e6),
        LinkEntry("a", "b", 0.005, 2e6),
        LinkEntry("gateway", "b", 0.020),
        LinkEntry("b", "gateway", 0.001),
    )
    known = msgspec.structs.replace(fleet([machine("a", 5, 8), machine("b", 5, 8)]), links=links)
    [found] = report(known, model(12), Demand(streams=4), ends=2).rings
    assert [stage.name for stage in found.stages] == ["a", "b"]
    assert [(link.source, link.target) for link in found.links] == [
        ("gateway", "a"),
        ("a", "b"),
        ("b", "gateway"),
    ]
    assert [link.delay_ms for link in found.links] == [20.0, 5.0, 1.0]
    assert [link.bytes_per_s for link in found.links] == [1e6, 2e6, 125e6]
    assert [link.window_ms for link in found.links] == [
        *(stage.link_ms for stage in found.stages),
        found.back_ms,
    ]
    told = msgspec.json.decode(msgspec.json.encode(found))["links"][1]
    assert (told["from"], told["to"]) == ("a", "b")


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
    in_bytes = model_costs(manifest, boundaries(gguf), 1, encoding=I8_BLOCKS)
    assert in_bytes.row_bytes == row_bytes(I8_BLOCKS, manifest.n_embd) < costs.row_bytes
    assert msgspec.structs.replace(in_bytes, row_bytes=costs.row_bytes) == costs


def test_a_chunks_ways_are_told() -> None:
    links = (LinkEntry("gateway", "a", 0.020, 1e6),)
    known = msgspec.structs.replace(fleet([machine("a", 5)]), links=links)
    [found] = report(known, model(12), Demand(chunk_rows=100), ends=1).rings
    assert found.chunk_link_ms == pytest.approx(1e3 * 100 * model(12).row_bytes / 1e6)
    assert found.chunk_ms > 0
    assert (found.short_rows, found.chunk_rows) == (False, 100)
    assert 16 <= found.beside_rows <= 100
    assert found.beside_ms > 0
    assert found.chunks_in_flight >= 4
    costs = model(12, short_row_bytes=2200)
    [found] = report(known, costs, Demand(chunk_rows=100), ends=1).rings
    assert found.short_rows == (found.chunk_link_ms > found.chunk_ms)
