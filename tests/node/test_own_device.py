"""This machine as a device, from layers that are timed in real stage processes."""

from __future__ import annotations

import platform
import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.conftest import MakeModel

from atoll.domain.errors import EngineFault
from atoll.domain.measure import NODE_S, PROBE_ROWS, RAM, TierMemory
from atoll.engine.devices import PROCESSOR
from atoll.node import own_device as module
from atoll.node import probe
from atoll.node.options import NodeOptions
from atoll.node.own_device import Timed, machine_name, own_device, probe_job
from atoll.node.probe import measure
from atoll.node.probe_cache import ProbeCache
from atoll.store.layout import FoundModel, Store

OPTIONS = NodeOptions("node", "", threads=1, threads_large=1, spin=1000, gpu="none")


@pytest.fixture
def wide(random_model: MakeModel, node_store: Store) -> FoundModel:
    """A model whose layers have 15 MB, which takes far longer than any layer's own time."""
    path = random_model("llama", n_layers=5, n_embd=512, n_ff=2048, n_head=8, head_width=64)
    return node_store.resolve(str(path))


async def timed_of(model: FoundModel, store: Store, cache: ProbeCache | None = None) -> Timed:
    job = probe_job(model, store)
    return Timed(model, job, (await measure(job, OPTIONS, cache)).measured)


@pytest.mark.engine
def test_what_is_timed_of_a_model(wide: FoundModel, node_store: Store) -> None:
    job = probe_job(wide, node_store)
    assert job.long is not None
    assert job.long.size_bytes > job.short.size_bytes > 15e6
    assert (job.model, job.rows_max) == (wide.model, PROBE_ROWS[-1])
    assert all(shard.path.stat().st_size == shard.size_bytes for shard in job.shards)


@pytest.mark.engine
async def test_this_machine(
    wide: FoundModel, node_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "BUDGET_S", 0.2)
    cache = ProbeCache(tmp_path / "probe.json")
    timed = await timed_of(wide, node_store, cache)
    device = await own_device(timed, OPTIONS, cache, name="reef")
    assert (device.name, device.kind) == ("reef", "cpu")
    [ram] = [tier for tier in timed.measured.memory if tier.kind == RAM]
    assert device.memory == ram.total_bytes
    assert re.fullmatch(r"atoll probe, \d{4}-\d\d-\d\d, llama-\d+, 1 and 1 threads", device.source)
    assert device.timing is not None
    assert device.timing.bits == pytest.approx(32, rel=0.01)
    assert device.timing.hop_s >= NODE_S
    # By and large a layer is its weights, which are read once.
    layer_s = timed.measured.layer_s[0].seconds
    reading_s = 15.2e6 / device.bandwidth
    assert reading_s + device.timing.layer_s == pytest.approx(layer_s, rel=0.1)
    assert 0 <= device.timing.layer_s < layer_s / 2
    assert device.flops["fp16"] > 1e8
    assert 0 <= device.timing.unpacking <= 1
    # Made layers are remembered as the model's are.
    assert await own_device(timed, OPTIONS, cache, name="reef") == device


@pytest.mark.engine
async def test_both_must_have_been_timed_on_the_same(
    wide: FoundModel, node_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "BUDGET_S", 0.05)
    timed = await timed_of(wide, node_store)
    elsewhere = msgspec.structs.replace(timed.measured, device="CUDA0 (a card)")
    with pytest.raises(EngineFault, match=r"timed on CUDA0 .a card., made ones are on processor"):
        await own_device(replace(timed, measured=elsewhere), OPTIONS, None, name="reef")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor : 0\nmodel name\t: AMD EPYC\nflags : sse", "AMD EPYC"),
        ("processor : 0\nHardware : BCM2835\nModel\t\t: Raspberry Pi 5", "Raspberry Pi 5"),
        ("", platform.processor() or platform.machine()),
    ],
)
def test_a_name_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "node", lambda: "reef")
    assert machine_name(PROCESSOR) == f"reef {name}"
    assert machine_name("CUDA0 (NVIDIA RTX 3090)") == "reef CUDA0 (NVIDIA RTX 3090)"
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "nowhere")
    assert machine_name(PROCESSOR) == f"reef {platform.processor() or platform.machine()}"


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        (PROCESSOR, ("cpu", 100)),
        ("CUDA0 (card)", ("gpu", 24)),
        ("Metal (M3)", ("soc", 64)),
        ("Vulkan0 (chip)", ("soc", 100)),
        ("gone", ("gpu", 100)),
    ],
)
def test_memory_is_that_of_what_computes(device: str, wanted: tuple[str, int]) -> None:
    tiers = (
        TierMemory("RAM", RAM, 50, 100),
        TierMemory("CUDA0 (card)", "gpu", 20, 24),
        TierMemory("Metal (M3)", "integrated", 60, 64),
        # It cannot tell.
        TierMemory("Vulkan0 (chip)", "integrated", 0, 0),
    )
    assert module.kind_and_memory(device, tiers) == wanted
