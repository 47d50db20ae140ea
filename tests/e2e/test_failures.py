"""What becomes of streams, processes and files when a part of the ring is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import time
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from tests.e2e.conftest import OpenSmall
from tests.support.children import is_running, new_children
from tests.support.rings import Ring, start_node, wait_until

from atoll.domain.errors import AtollError
from atoll.store.layout import Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]

ENDS = ("the ring is down: ", "the ring is mended: ")


def why(ring: Ring) -> str:
    """Why the ring broke; empty if it has not."""
    found = [line.partition(end)[2] for line in ring.said for end in ENDS if end in line]
    return found[0] if found else ""


class Stream:
    """A client that reads an endless answer; `code` is that of the error that ended it."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self.text = ""
        self.code: str | None = None
        self.answers = 0

    async def read(self, max_tokens: int = 240) -> None:
        stream = await self._ring.client.completions.create(
            model=self._ring.name,
            prompt="ab",
            max_tokens=max_tokens,
            temperature=0,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        try:
            async for chunk in stream:
                self.text += chunk.choices[0].text
            self.answers += 1
        except openai.APIError as error:
            self.code = str(error.code)

    async def read_on(self) -> None:
        """Read one answer after the other until one ends with an error."""
        while self.code is None:
            await self.read()


async def disturbed(ring: Ring, process: int, how: signal.Signals, *, timeout_s: float = 30) -> str:
    """Send `how` to a process while a stream runs, which goes on; returns why the ring broke."""
    stream = Stream(ring)
    epoch = ring.status.rings[0].epoch
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(stream.read_on(), name="read")
        await wait_until(lambda: stream.text, what="the first text")
        os.kill(process, how)
        await wait_until(lambda: why(ring), what="the ring's end")
        reason = why(ring)
        before = len(stream.text)
        await wait_until(lambda: ring.status.rings[0].epoch > epoch, timeout_s=timeout_s)
        await wait_until(lambda: len(stream.text) > before, timeout_s=timeout_s, what="more")
        reading.cancel()
    assert stream.code is None
    return reason


async def refused(ring: Ring) -> httpx.Response:
    reply = await ring.http.post(
        "/v1/completions", json={"model": ring.name, "prompt": "ab", "max_tokens": 2}
    )
    assert reply.status_code == 503, reply.text
    assert reply.json()["error"]["code"] == "ring_down"
    return reply


async def serves(ring: Ring) -> None:
    reply = await ring.http.post(
        "/v1/completions", json={"model": ring.name, "prompt": "ab", "max_tokens": 2}
    )
    assert reply.status_code == 200, reply.text


async def test_a_stage_that_aborts_is_started_again(open_small: OpenSmall) -> None:
    async with open_small() as ring:
        stage = ring.nodes[1].stage_pid()
        assert "node-2" in await disturbed(ring, stage, signal.SIGABRT)
        assert not is_running(stage)
        assert ring.status.rings[0].epoch[1] >= 2
        assert all(node.process.returncode is None for node in ring.nodes)
        assert ring.nodes[1].stage_pid() != stage


async def test_a_killed_node_is_done_without_and_replaced_with_a_new_join_file(
    open_small: OpenSmall,
) -> None:
    async with open_small() as ring:
        first, second = ring.gateway.join_files
        assert not first.exists()
        stage = ring.nodes[0].stage_pid()
        reason = await disturbed(ring, ring.nodes[0].pid, signal.SIGKILL)
        assert reason == "the node node-1 is gone"
        await ring.nodes[0].wait_ended()
        await wait_until(lambda: not is_running(stage), what="the orphaned stage's end")
        assert first.exists()
        assert not second.exists()
        assert stat.S_IMODE(first.stat().st_mode) == 0o600
        assert any(str(first) in line for line in ring.said)
        assert ring.status.nodes_missing == 1
        assert [stage.name for stage in ring.status.rings[0].stages] == ["node-2"]
        replacement = await ring.add_node(first)
        await wait_until(
            lambda: [s.name for s in ring.status.rings[0].stages] == ["node-3", "node-2"],
            timeout_s=30,
            what="a ring of both",
        )
        await ring.wait_ready()
        await serves(ring)
        assert replacement.process.returncode is None


async def test_a_ring_without_nodes_refuses_and_says_why(open_small: OpenSmall) -> None:
    async with open_small() as ring:
        stages = [node.stage_pid() for node in ring.nodes]
        for node in ring.nodes:
            node.process.terminate()
            assert await node.wait_ended() == 0
        assert not any(is_running(stage) for stage in stages)
        await wait_until(lambda: not ring.gateway.conductor.health().ready)
        await refused(ring)
        health = await ring.http.get("/health")
        assert health.status_code == 503
        # They say goodbye before neighbours notice, so that none is blamed.
        assert "is gone" in health.json()["reason"]


async def test_the_ends_process_is_started_again(open_small: OpenSmall) -> None:
    async with open_small() as ring:
        ends = ring.gateway.conductor.rings[0].ends.pid
        assert ends is not None
        assert "ends process" in await disturbed(ring, ends, signal.SIGKILL)
        assert ring.gateway.conductor.rings[0].ends.pid not in (None, ends)


async def test_a_silent_node_is_noticed(open_small: OpenSmall) -> None:
    async with open_small() as ring:
        silent = ring.nodes[0]
        try:
            reason = await disturbed(ring, silent.pid, signal.SIGSTOP)
        finally:
            os.kill(silent.pid, signal.SIGCONT)
        assert "silent" in reason or "gone" in reason
        assert [stage.name for stage in ring.status.rings[0].stages] == ["node-2"]
        # It finds its links closed, and comes back by itself.
        await wait_until(lambda: "trying to come back" in silent.said, what="its return")
        await wait_until(lambda: ring.status.nodes_missing == 0, what="its place")
        assert silent.process.returncode is None


@pytest.mark.long
async def test_a_stopped_stage_process_stalls_no_stream_for_ever(open_small: OpenSmall) -> None:
    """Its node still beats, so only the missing answer tells."""
    async with open_small(stall_s=1.0) as ring:
        stage = ring.nodes[0].stage_pid()
        assert "no answer came round" in await disturbed(ring, stage, signal.SIGSTOP)
        await wait_until(lambda: not is_running(stage), what="the stopped stage's end")


async def test_stopped_ends_are_replaced(
    open_small: OpenSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They do not end when asked, and are killed after this.
    monkeypatch.setattr("atoll.engine.child.CLOSE_S", 0.3)
    async with open_small(stall_s=1.0) as ring:
        ends = ring.gateway.conductor.rings[0].ends.pid
        assert ends is not None
        await disturbed(ring, ends, signal.SIGSTOP)
        assert not is_running(ends)


async def test_leaving_the_gateway_ends_streams_nodes_and_files(open_small: OpenSmall) -> None:
    stream: Stream
    async with asyncio.TaskGroup() as tasks:
        async with open_small() as ring:
            stream = Stream(ring)
            reading = tasks.create_task(stream.read_on(), name="read")
            await wait_until(lambda: stream.text, what="the first text")
            nodes = ring.nodes
            stages = [node.stage_pid() for node in nodes]
            gateway_folder = ring.folder
            # The clients outlive the gateway here, so that they see what it says last.
            ring.http, ring.client = ring.http, ring.client.with_options()
            closing = time.monotonic()
        assert time.monotonic() - closing < 10
        with_error = asyncio.gather(reading, return_exceptions=True)
        await with_error
    assert stream.code is not None
    for node in nodes:
        assert await node.wait_ended() == 0
        assert "the gateway is shutting down" in node.said
    assert not any(is_running(stage) for stage in stages)
    assert list((gateway_folder / "join").iterdir()) == []
    assert new_children() == []


async def test_nodes_of_a_killed_gateway_end_by_themselves(
    small_files: tuple[Path, Path], tmp_path: Path
) -> None:
    model, store_home = small_files
    join_dir = tmp_path / "join"
    gateway = await start_gateway(model, store_home, tmp_path, join_dir)
    nodes = []
    try:
        for number in (1, 2):
            path = join_dir / f"node-{number}.join"
            await wait_until(path.exists, timeout_s=20, what="the join file")
            nodes.append(
                await start_node(
                    path,
                    tmp_path / f"n{number}",
                    tmp_path / f"n{number}.log",
                    *("--model", str(model), "--wait", "0"),
                    store=Store(store_home),
                )
            )
        await wait_until((tmp_path / "ready").exists, timeout_s=20, what="the ring")
        children = psutil.Process(gateway.pid).children(recursive=True)
        stages = [node.stage_pid() for node in nodes]
        gateway.kill()
        await gateway.wait()
        for node in nodes:
            assert await node.wait_ended(5.0) == 6
            assert "the gateway is gone" in node.said
            assert "once it is back: atoll join" in node.said
            assert "Traceback" not in node.said
        pids = [child.pid for child in children] + stages
        await wait_until(lambda: not any(is_running(pid) for pid in pids), what="the children")
    finally:
        for process in [gateway, *(node.process for node in nodes)]:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_a_gateway_asked_to_stop_leaves_nothing(
    small_files: tuple[Path, Path], tmp_path: Path
) -> None:
    model, store_home = small_files
    join_dir = tmp_path / "join"
    gateway = await start_gateway(model, store_home, tmp_path, join_dir)
    try:
        await wait_until((join_dir / "node-1.join").exists, timeout_s=20, what="the join file")
        children = psutil.Process(gateway.pid).children(recursive=True)
        gateway.terminate()
        assert await asyncio.wait_for(gateway.wait(), 10) == 0
    finally:
        if gateway.returncode is None:
            gateway.kill()
            await gateway.wait()
    assert list(join_dir.iterdir()) == []
    await wait_until(lambda: not any(is_running(c.pid) for c in children), what="the children")
    left = [p for p in (tmp_path / "home").rglob("*") if p.is_file()]
    kept = {"gateway.pem", "incarnation", "keys.json", "link-ports", "register.json"}
    assert {p.name for p in left if p.suffix != ".lock"} <= kept


async def start_gateway(
    model: Path, store_home: Path, folder: Path, join_dir: Path
) -> asyncio.subprocess.Process:
    with (folder / "gateway.log").open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "atoll", "serve", str(model), "--nodes", "2", "--port", "0"),
            *("--plan", "equal"),
            *("--link-port", "0"),
            *("--home", str(folder / "home"), "--store", str(store_home), "--context", "256"),
            *("--join-dir", str(join_dir), "--ready-file", str(folder / "ready")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=log,
        )


@pytest.fixture
def small_files(small: object, tmp_path: Path) -> tuple[Path, Path]:
    """A model's file, and the folder of a store."""
    return small.path, tmp_path / "store"  # type: ignore[attr-defined]


async def test_an_unplanned_end_of_the_ring_is_no_secret(open_small: OpenSmall) -> None:
    """A ring that never forms says why, and asks for what it needs."""
    async with open_small(join=False) as ring:
        reply = await refused(ring)
        assert "waiting for 2 nodes to join" in reply.json()["error"]["message"]
        with pytest.raises(AtollError):
            await ring.tokens((5, 6), 2)
