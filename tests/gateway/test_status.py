"""The ring in numbers."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.hand_node import HandNode
from tests.support.rings import wait_until

from atoll.domain.control import StageReport
from atoll.gateway.serve import Gateway
from atoll.gateway.status import GatewayStatus

pytestmark = [pytest.mark.engine, pytest.mark.network]


async def test_before_anybody_has_joined(ring_gateway: Gateway) -> None:
    status = ring_gateway.status()
    [ring] = status.rings
    assert (status.ready, status.nodes_missing, ring.epoch) == (False, 1, (0, 0))
    assert status.reason == "waiting for 1 nodes to join"
    assert (ring.stages, status.ends, ring.lap) == ((), ((0, 1), (5, 6)), None)
    assert (ring.links, ring.wire) == ((), "")
    assert (status.n_layers, status.architecture, status.streams) == (6, "llama", 3)
    assert status.gateway_memory_bytes > 0
    assert ring.ends_device == ""


async def test_a_stages_means_are_over_its_steps(
    ring_gateway: Gateway, hand_node: HandNode
) -> None:
    await hand_node.form(ring_gateway.join_files[0])
    await wait_until(lambda: ring_gateway.conductor.health().ready)
    [stage] = ring_gateway.status().rings[0].stages
    assert (stage.batches, stage.engine_ms, stage.memory_bytes) == (0, 0.0, 0)
    report = StageReport(
        epoch=hand_node.plan.epoch,
        windows=8,
        rows=16,
        batches=5,
        steps=4,
        engine_s=0.4,
        busy_s=0.5,
        call_s=0.7,
        node_s=0.1,
        memory_bytes=12345,
        sessions=2,
        next_rtt_s=0.5,
        next_bytes=77,
    )
    hand_node.control.send(report)
    await wait_until(lambda: ring_gateway.status().rings[0].stages[0].batches)
    status = ring_gateway.status()
    [stage] = status.rings[0].stages
    assert (stage.first, stage.last, stage.ready) == (1, 5, True)
    assert (stage.windows, stage.rows, stage.sessions, stage.memory_bytes) == (8, 16, 2, 12345)
    assert stage.engine_ms == pytest.approx(100)
    assert stage.pipe_ms == pytest.approx(50)
    assert stage.node_ms == pytest.approx(25)
    assert stage.address == f"127.0.0.1:{hand_node.listener.port}"
    assert (stage.device, status.rings[0].ends_device) == ("CUDA0 (Great GPU)", "processor")
    assert status.ends == ((0, 1), (5, 6))
    assert status.nodes_missing == 0
    assert status.rings[0].wire == "f16s"
    away, back = status.rings[0].links
    assert (away.source, away.target) == (back.target, back.source) == ("gateway", "hand")
    assert (back.predicted_ms, back.measured_ms, back.sent_bytes) == (None, 250.0, 77)
    decoded = msgspec.json.decode(msgspec.json.encode(status), type=GatewayStatus)
    assert decoded == status
