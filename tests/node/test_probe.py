"""Timing real layers in real stage processes."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.support.children import is_running, new_children
from tests.support.rings import wait_until

from atoll.domain.errors import EngineFault
from atoll.domain.measure import answer_problem, rows_for
from atoll.engine.devices import PROCESSOR
from atoll.engine.library import ENGINE_BUILD
from atoll.node import probe
from atoll.node.options import NodeOptions
from atoll.node.probe import ProbeJob, ProbeShard, measure, memory_tiers
from atoll.node.probe_cache import ProbeCache
from atoll.store.layout import FoundModel, Store
from atoll.store.shards import ensure_shard

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("own_children")]

OPTIONS = NodeOptions("node", "", threads=1, threads_large=1, spin=1000, gpu="none")


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "BUDGET_S", 0.2)


def job_of(model: FoundModel, store: Store, *, rows_max: int = 64, alone: bool = False) -> ProbeJob:
    def cut(first: int, last: int) -> ProbeShard:
        file = ensure_shard(store, model, first, last)
        return ProbeShard(file.path, file.size_bytes, first, last)

    return ProbeJob(model.model, cut(1, 2), None if alone else cut(1, 4), rows_max)


@pytest.mark.alone
@pytest.mark.parametrize("alone", [False, True])
async def test_layers_are_timed(model: FoundModel, node_store: Store, alone: bool) -> None:
    measured = (await measure(job_of(model, node_store, alone=alone), OPTIONS, None)).measured
    assert answer_problem(measured, model.model, rows_for(64)) == ""
    assert all(a.seconds <= b.seconds for a, b in pairwise(measured.layer_s))
    assert 0 < measured.layer_s[0].seconds < 0.5
    assert (measured.device, measured.engine_build) == (PROCESSOR, ENGINE_BUILD)
    assert (measured.threads, measured.busy) == (1, False)
    assert not [child for child in new_children() if is_running(child.pid)]


async def test_it_is_measured_once_and_again_when_asked(
    model: FoundModel, node_store: Store, tmp_path: Path
) -> None:
    cache, job = ProbeCache(tmp_path / "probe.json"), job_of(model, node_store)
    first = await measure(job, OPTIONS, cache)
    again = await measure(job, OPTIONS, cache)
    assert (first.recalled, again.recalled) == (False, True)
    assert again.measured == replace(first.measured, memory=again.measured.memory)
    anew = await measure(job, OPTIONS, cache, fresh=True, keep=False)
    assert anew.measured.measured_at_s > first.measured.measured_at_s
    assert cache.find(first.key) == first.measured
    anew = await measure(job, OPTIONS, cache, fresh=True)
    assert cache.find(first.key) == anew.measured
    # Another limit of rows has other sizes.
    other = await measure(job_of(model, node_store, rows_max=4), OPTIONS, cache)
    assert [time.rows for time in other.measured.layer_s] == [1, 4]


async def test_memory_is_that_of_the_machine() -> None:
    [ram] = await memory_tiers("none")
    assert (ram.name, ram.kind) == ("RAM", "ram")
    assert 0 < ram.free_bytes <= ram.total_bytes


async def test_a_stage_process_that_dies_ends_it(model: FoundModel, node_store: Store) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_failing(job_of(model, node_store)))
        await wait_until(new_children, what="the stage process")
        os.kill(new_children()[0].pid, signal.SIGKILL)
    assert "killed" in running.result().problem


async def _failing(job: ProbeJob) -> EngineFault:
    with pytest.raises(EngineFault) as failure:
        await measure(job, OPTIONS, None)
    return failure.value


async def test_a_machine_that_is_far_too_slow(
    model: FoundModel, node_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "CALL_S", 0.0)
    with pytest.raises(EngineFault, match="took longer than 0 s"):
        await measure(job_of(model, node_store), OPTIONS, None)
    assert not [child for child in new_children() if is_running(child.pid)]


async def test_a_file_that_is_no_shard(node_store: Store, model: FoundModel) -> None:
    job = job_of(model, node_store, alone=True)
    broken = ProbeShard(job.short.path.with_suffix(".lock"), 10, 1, 2)
    with pytest.raises(Exception, match=r"GGUF|model"):
        await measure(ProbeJob(model.model, broken, None, 64), OPTIONS, None)
