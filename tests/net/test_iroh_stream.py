from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from atoll.domain.errors import LinkFault
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Grant, Window
from atoll.net.iroh_stream import WARM_BYTES
from atoll.net.link import DataLimits, LinkLost, LinkSettings, UnusableFrame

pytestmark = pytest.mark.network
LIMITS = DataLimits(n_embd=4096, rows_max=64)
ROWS = 64
PAYLOAD = bytes(ROWS * 4096 * 4)


def a_window(seq: int) -> Window:
    return Window(SessionId(7), Slot(1), Epoch(1, 1), seq, keep=0, rows=ROWS, encoding="f32")


class Heard:
    """Keeps what a link delivers."""

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.changed = asyncio.Event()
        self.ended: list[LinkFault | None] = []

    def on_frame(self, message: Any, payload: bytes) -> None:
        self.frames.append((message, payload))
        self.changed.set()

    def on_unusable(self, fault: UnusableFrame) -> None:
        raise fault

    def on_batch_end(self) -> None:
        pass

    def on_closed(self, reason: LinkFault | None) -> None:
        self.ended.append(reason)

    async def wait_for(self, count: int) -> None:
        while len(self.frames) < count:
            self.changed.clear()
            await self.changed.wait()


async def a_pair(station: Any, settings: LinkSettings | None = None) -> tuple[Any, Any, Heard]:
    near = await station.dial_data(settings)
    far = await station.data.get()
    heard = Heard()
    near.start(Heard(), LIMITS)
    far.start(heard, LIMITS)
    return near, far, heard


async def close(*links: Any) -> None:
    for link in links:
        link.close()
    for link in links:
        await link.wait_closed()


def received(link: Any) -> int:
    """Bytes that the link's connection got so far."""
    return int(link._transport._connection.stats().udp_rx_bytes)


async def test_data_links_are_warmed_once_and_control_links_never(open_quic_station: Any) -> None:
    async with asyncio.timeout(20), open_quic_station() as station:
        near, far, heard = await a_pair(station)
        async with asyncio.timeout(5):
            while received(far) < WARM_BYTES:
                await asyncio.sleep(0.02)
        path = near._transport._connection.paths()[0]
        assert path.stats.cwnd > 100_000
        near.send(Grant(1))
        await heard.wait_for(1)
        assert heard.frames == [(Grant(1), b"")]
        assert received(far) < 1.2 * WARM_BYTES
        assert received(near) < 200_000
        ours = await station.dial_control()
        theirs = await station.control.get()
        await close(near, far, ours, theirs)
        assert received(theirs) < 100_000


async def test_windows_pass_the_warming(open_quic_station: Any) -> None:
    async with asyncio.timeout(20), open_quic_station() as station:
        near, far, heard = await a_pair(station)
        frames = [(a_window(seq), PAYLOAD) for seq in range(4)]
        assert near.send_flight(frames)
        assert near.buffered_bytes > len(PAYLOAD)
        await heard.wait_for(4)
        assert heard.frames == frames
        async with asyncio.timeout(2):
            while near.buffered_bytes:
                await asyncio.sleep(0.01)
        await close(near, far)


async def test_paused_reading_holds_the_sender_and_loses_nothing(open_quic_station: Any) -> None:
    async with asyncio.timeout(20), open_quic_station() as station:
        near, far, heard = await a_pair(station)
        transport = far._transport
        assert transport.get_protocol() is far
        transport.pause_reading()
        frames = [(a_window(seq), PAYLOAD) for seq in range(8)]
        for frame in frames:
            near.send(*frame)
        await asyncio.sleep(0.3)
        assert len(heard.frames) < 8
        assert near.buffered_bytes
        transport.resume_reading()
        await heard.wait_for(8)
        assert heard.frames == frames
        await close(near, far)


async def test_killed_peer_is_noticed_by_its_silence(
    open_quic_station: Any, start_peer: Any
) -> None:
    """QUIC alone would take half a minute."""
    settings = LinkSettings(heartbeat_s=0.3, missed_max=3)
    async with (
        asyncio.timeout(30),
        open_quic_station(settings=settings) as station,
        start_peer(station) as process,
    ):
        link = await station.data.get()
        heard = Heard()
        link.start(heard, LIMITS)
        await asyncio.sleep(0.3)
        killed_s = time.monotonic()
        process.kill()
        reason = await link.wait_closed()
        assert isinstance(reason, LinkLost)
        assert "silent for 0.9 s" in str(reason)
        assert time.monotonic() - killed_s < 3
        assert heard.ended == [reason]


async def test_broken_connection_is_told_with_its_reason(open_quic_station: Any) -> None:
    async with asyncio.timeout(10), open_quic_station() as station:
        near, far, heard = await a_pair(station)
        far._transport._connection.close(9, b"")
        assert isinstance(await near.wait_closed(), LinkLost)
        assert isinstance(await far.wait_closed(), LinkLost)
        await asyncio.sleep(0)
        assert len(heard.ended) == 1


async def test_peer_that_takes_no_more_of_our_stream_ends_the_link(open_quic_station: Any) -> None:
    async with asyncio.timeout(10), open_quic_station() as station:
        near, far, _ = await a_pair(station)
        await near._transport._recv.stop(3)
        while far.send(Grant(1)):
            await asyncio.sleep(0.01)
        assert isinstance(await near.wait_closed(), LinkLost)
        await far.wait_closed()
