"""Answers outlive their gateway: it is killed in the middle of them, and started anew."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from bench.gateway_deaths import Found, Lab, kill_amid, open_lab, requests_of

from atoll.store.layout import FoundModel, Store

pytestmark = [pytest.mark.engine, pytest.mark.network, pytest.mark.timeout(300)]


async def chat(lab: Lab, *, kill_after: int | None = None) -> tuple[str, str]:
    """What `atoll chat` of the gateway's machine prints and says; perhaps the gateway dies."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "atoll", "chat", "Tell me of the sea.", "--temperature", "0"),
        *("--max-tokens", "32", "--home", str(lab.folder / "gateway")),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said = b""
    if kill_after is not None:
        said = await process.stdout.readexactly(kill_after)
        await lab.restart()
    said += await process.stdout.read()
    complaint = (await process.stderr.read()).decode()
    assert await process.wait() == 0, complaint
    return said.decode(), complaint


async def test_no_token_is_lost_or_repeated(
    demo_model: Path, test_store: Store, tmp_path: Path
) -> None:
    model: FoundModel = test_store.resolve(str(demo_model))
    async with open_lab(model, test_store, tmp_path, streams=4) as lab:
        references = await requests_of(lab, 4, tokens=24)
        await lab.read_all(references)
        assert all(told.is_done for told in references)
        found = Found()
        await kill_amid(lab, references, found, times=1)
        assert (found.kills, found.streams, found.resumed) == (1, 4, 4)
        assert (found.lost, found.differing, found.problems) == (0, 0, [])
        assert found.acked >= 4
        # The nodes came back by themselves, to the port that the gateway remembered.
        for number in (1, 2):
            node = (tmp_path / f"node-{number}.log").read_text()
            assert node.count("trying to come back") >= 1
            assert node.count(f"joined as node-{number}") == 2
        # And a program of this machine, whose key the new gateway does not know.
        whole, _ = await chat(lab)
        again, complaint = await chat(lab, kill_after=len(whole) // 4)
        assert again == whole
        assert "trying to go on with the answer" in complaint
    streams = tmp_path / "gateway" / "streams"
    assert streams.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in streams.iterdir())
