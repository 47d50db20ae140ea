from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest
from bench.llama_rpc import (
    RPC_SERVER,
    SERVER,
    Peer,
    PeerSetting,
    open_peer,
    peer_settings,
    server_arguments,
)

from atoll.client.endpoint import Endpoint


def test_every_way_to_wait_is_tried_where_threads_wait_for_each_other() -> None:
    assert list(map(str, peer_settings(2))) == [
        "1 threads, short spin",
        "2 threads, short spin",
        "2 threads, default spin",
    ]


def test_the_server_has_all_layers_elsewhere_and_a_slot_for_each_stream() -> None:
    found = server_arguments(Path("m.gguf"), servers=[1, 2, 3], port=9, streams=16, context=100)
    said = dict(zip(found[::2], found[1::2], strict=False))
    assert said["--rpc"] == "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3"
    assert said["--tensor-split"] == "1,1,1"
    assert (said["--parallel"], said["--ctx-size"]) == ("16", "1600")


def state(process: asyncio.subprocess.Process) -> str:
    return str(psutil.Process(process.pid).status())


async def wait_state(process: asyncio.subprocess.Process, *wanted: str) -> None:
    async with asyncio.timeout(10):
        while state(process) not in wanted:
            await asyncio.sleep(0.01)


async def test_a_peer_stands_still_but_for_its_turn() -> None:
    peer = Peer(PeerSetting(1, "short"), Endpoint("http://127.0.0.1:1"), None)
    process = await asyncio.create_subprocess_exec("sleep", "60")
    peer.processes.append(process)
    try:
        peer.rest()
        await wait_state(process, psutil.STATUS_STOPPED)
        with peer.awake():
            await wait_state(process, psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING)
        await wait_state(process, psutil.STATUS_STOPPED)
    finally:
        process.kill()
        await process.wait()


@pytest.mark.network
async def test_a_peer_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    for name in (RPC_SERVER, SERVER):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho no such option\nexit 1\n")
        program.chmod(0o755)
    with pytest.raises(RuntimeError, match="no such option"):
        async with open_peer(
            tmp_path,
            tmp_path / "m.gguf",
            PeerSetting(1, "short"),
            log=tmp_path / "log",
            streams=1,
            context=64,
            far=False,
        ):
            pass
