from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import pytest
from bench.slow_net import Path, slow_tcp

from atoll.domain.control import Beat, ControlMessage, Leave, Refusal, Welcome
from atoll.domain.errors import LinkFault, ProtocolFault
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Grant, Ping, Pong, Refused, Window
from atoll.net.frames import encode
from atoll.net.identity import Identity
from atoll.net.link import ControlInbox, DataLimits, LinkLost, LinkSettings, UnusableFrame
from atoll.net.tls import dial_data

pytestmark = pytest.mark.network
LIMITS = DataLimits(n_embd=4, rows_max=8)


def a_window(seq: int = 0, rows: int = 2) -> Window:
    return Window(SessionId(7), Slot(1), Epoch(1, 1), seq, keep=seq, rows=rows, encoding="f32")


async def test_round_trip_and_flight(open_pair: Any) -> None:
    async with asyncio.timeout(10), open_pair() as pair:
        flight = [(a_window(seq), bytes([seq]) * 32) for seq in range(5)]
        assert pair.near.send_flight(flight)
        assert [await pair.far_heard.frames.get() for _ in flight] == flight
        assert pair.far_heard.batches == [5]
        assert pair.far.send(Grant(5))
        assert await pair.near_heard.frames.get() == (Grant(5), b"")
        # QUIC may have moved to the other port of the endpoints: quicker, and of the loopback too.
        ways = {"127.0.0.1", "::1"} if pair.near.carrier == "quic" else {"127.0.0.1"}
        assert {pair.near.peer_host, pair.far.peer_host} <= ways
        assert pair.near.kind == pair.far.kind == "data"


async def test_large_payloads_in_both_directions(open_any_station: Any) -> None:
    limits = DataLimits(n_embd=4096, rows_max=512)
    window = Window(SessionId(7), Slot(1), Epoch(1, 1), 0, keep=0, rows=512, encoding="f32")
    payload = os.urandom(512 * 4096 * 4)
    async with asyncio.timeout(20), open_any_station() as station:
        near, far, near_heard, far_heard = await _pair(station, limits)
        for _ in range(2):
            near.send(window, payload)
            far.send(window, payload)
        for _ in range(2):
            assert await near_heard.frames.get() == (window, payload)
            assert await far_heard.frames.get() == (window, payload)
        await _close(near, far)


async def _pair(station: Any, limits: DataLimits, **settings: Any) -> tuple[Any, Any, Any, Any]:
    near = await station.dial_data(settings=LinkSettings(**settings))
    far = await station.data.get()
    near_heard, far_heard = _Heard(), _Heard()
    near.start(near_heard, limits)
    far.start(far_heard, limits)
    return near, far, near_heard, far_heard


class _Heard:
    def __init__(self) -> None:
        self.frames: asyncio.Queue[Any] = asyncio.Queue()
        self.ended: asyncio.Future[LinkFault | None] = asyncio.get_running_loop().create_future()

    def on_frame(self, message: Any, payload: bytes) -> None:
        self.frames.put_nowait((message, payload))

    def on_unusable(self, fault: UnusableFrame) -> None:
        raise fault

    def on_batch_end(self) -> None:
        pass

    def on_closed(self, reason: LinkFault | None) -> None:
        self.ended.set_result(reason)


async def _close(*links: Any) -> None:
    for link in links:
        link.close()
    for link in links:
        await link.wait_closed()


async def test_closing_writes_what_waits_and_each_side_knows_who_did_it(open_pair: Any) -> None:
    async with asyncio.timeout(10), open_pair() as pair:
        pair.near.send(a_window(), bytes(32))
        pair.near.close()
        pair.near.close()
        assert pair.near.is_closed
        assert not pair.near.send(Grant(1))
        assert await pair.far_heard.frames.get() == (a_window(), bytes(32))
        reason = await pair.far_heard.ended
        assert isinstance(reason, LinkLost)
        assert "other side closed" in str(reason)
        assert await pair.near_heard.ended is None
        assert await pair.near.wait_closed() is None
        assert await pair.far.wait_closed() is reason


async def test_wrong_length_closes_with_a_reply(open_pair: Any) -> None:
    async with asyncio.timeout(10), open_pair() as pair:
        pair.near.send(Grant(1))
        pair.near.send(a_window(), bytes(31))
        pair.near.send(Grant(2))
        fault = await pair.far_heard.ended
        assert isinstance(fault, ProtocolFault)
        assert "payload of 31 bytes" in str(fault)
        assert "payload of 31 bytes" in str(await pair.near_heard.ended)
        assert pair.far_heard.frames.qsize() == 1


async def test_oversized_frame_is_refused_by_its_first_bytes(open_pair: Any) -> None:
    async with asyncio.timeout(10), open_pair() as pair:
        pair.near._write(encode(a_window(), bytes(32))[:4] + b"\xff\xff\xff\xff")
        assert "payload of 4294967295 bytes" in str(await pair.far_heard.ended)


async def test_what_the_handler_refuses_closes_the_link(open_pair: Any) -> None:
    def refuse(message: object, payload: bytes) -> None:
        raise LinkFault("a huge epoch")

    async with asyncio.timeout(10), open_pair() as pair:
        pair.far_heard.on_frame = refuse
        pair.near.send(a_window(), bytes(32))
        assert "a huge epoch" in str(await pair.near_heard.ended)
        assert "a huge epoch" in str(await pair.far_heard.ended)


async def test_mistake_in_a_handler_ends_the_link_and_is_reported(open_pair: Any) -> None:
    def fail(message: object, payload: bytes) -> None:
        raise KeyError("mine")

    reported: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reported.append(context.get("exception")))
    async with asyncio.timeout(10), open_pair() as pair:
        pair.far_heard.on_frame = fail
        pair.near.send(a_window(), bytes(32))
        assert "failed on a frame" in str(await pair.far_heard.ended)
        assert isinstance(await pair.near_heard.ended, LinkLost)
    assert any(isinstance(error, KeyError) for error in reported)


async def test_refused_frames_are_delivered_and_pings_are_not(open_pair: Any) -> None:
    async with asyncio.timeout(10), open_pair() as pair:
        refused = Refused(SessionId(7), 3, "gap", "expected 2")
        pair.near.send(Ping(99))
        pair.near.send(Pong(99))
        pair.near.send(refused)
        assert await pair.far_heard.frames.get() == (refused, b"")
        assert pair.far_heard.seen == 1
        assert not pair.far.is_closed


@pytest.mark.alone
async def test_beats_keep_a_silent_link(open_pair: Any) -> None:
    quick = LinkSettings(heartbeat_s=0.1, missed_max=3)
    async with asyncio.timeout(10), open_pair(near=quick, far=quick) as pair:
        await asyncio.sleep(1.0)
        assert not pair.near.is_closed
        assert not pair.far.is_closed
        assert pair.far_heard.seen == 0


async def test_heartbeats_are_answered_and_timed_on_both_sides(open_any_station: Any) -> None:
    async with asyncio.timeout(20), open_any_station() as station:
        near, far, _near_heard, far_heard = await _pair(station, LIMITS, heartbeat_s=0.05)
        sent_bytes = near.sent_bytes
        near.send(a_window(), bytes(32))
        assert near.sent_bytes == sent_bytes + len(encode(a_window(), bytes(32)))
        while near.round_trip_s is None or far.round_trip_s is None:
            await asyncio.sleep(0.01)
        assert near.round_trip_s > 0
        assert far.round_trip_s > 0
        await _close(near, far)
        assert far_heard.frames.qsize() == 1


async def test_a_round_trip_is_no_shorter_than_the_way(open_station: Any) -> None:
    """Beside windows, which share the line."""
    delay_s = 0.03
    async with asyncio.timeout(20), open_station() as station:
        path = Path(delay_s=delay_s)
        async with slow_tcp(station.port, path) as port:
            near = await dial_data(
                "127.0.0.1",
                port,
                expected=station.identity.node_id,
                identity=Identity.generate(),
                settings=LinkSettings(heartbeat_s=0.1),
            )
            far = await station.data.get()
            heard = _Heard()
            near.start(_Heard(), LIMITS)
            far.start(heard, LIMITS)
            while near.round_trip_s is None:
                near.send(a_window(), bytes(32))
                await asyncio.sleep(0.01)
            # The proxy's timers may be half a millisecond early, each way.
            assert near.round_trip_s >= 2 * delay_s - 0.002
            await _close(near, far)


async def test_many_pings_get_few_answers(open_pair: Any) -> None:
    """So that answers cannot fill the line, nor whoever asks the memory here."""
    async with asyncio.timeout(10), open_pair() as pair:
        before = pair.far.sent_bytes
        pair.near._write(b"".join(encode(Ping(count)) for count in range(1000)) + encode(Grant(1)))
        assert await pair.far_heard.frames.get() == (Grant(1), b"")
        assert 0 < pair.far.sent_bytes - before < 20 * len(encode(Pong(1)))
        assert not pair.far.is_closed


async def test_answers_that_nobody_asked_for_change_nothing(open_pair: Any) -> None:
    async with asyncio.timeout(10), open_pair() as pair:
        for count in range(100, 1100):
            pair.near.send(Pong(count))
        pair.near.send(Grant(1))
        assert await pair.far_heard.frames.get() == (Grant(1), b"")
        assert pair.far.round_trip_s is None
        assert not pair.far.is_closed


@pytest.mark.alone
async def test_killed_peer_is_noticed_at_once(open_station: Any, start_peer: Any) -> None:
    async with asyncio.timeout(30), open_station() as station, start_peer(station) as process:
        link = await station.data.get()
        heard = _Heard()
        link.start(heard, LIMITS)
        await asyncio.sleep(0.3)
        killed_s = time.monotonic()
        process.kill()
        reason = await heard.ended
        assert time.monotonic() - killed_s < 0.9
        assert isinstance(reason, LinkLost)
        assert not link.send(Grant(1))
        await link.wait_closed()


@pytest.mark.alone
async def test_stopped_peer_is_noticed_by_its_silence(
    open_any_station: Any, start_peer: Any
) -> None:
    settings = LinkSettings(heartbeat_s=0.3, missed_max=3)
    async with (
        asyncio.timeout(30),
        open_any_station(settings=settings) as station,
        start_peer(station) as process,
    ):
        link = await station.data.get()
        heard = _Heard()
        link.start(heard, LIMITS)
        await asyncio.sleep(0.3)
        assert not link.is_closed
        os.kill(process.pid, signal.SIGSTOP)
        stopped_s = time.monotonic()
        reason = await heard.ended
        assert isinstance(reason, LinkLost)
        assert "silent for 0.9 s" in str(reason)
        assert 0.6 <= time.monotonic() - stopped_s < 3
        await link.wait_closed()


async def test_a_doubted_link_is_given_up_where_it_is_silent(
    open_any_station: Any, start_peer: Any
) -> None:
    settings = LinkSettings(heartbeat_s=0.3, missed_max=1000)
    async with (
        asyncio.timeout(30),
        open_any_station(settings=settings) as station,
        start_peer(station) as process,
    ):
        link = await station.data.get()
        heard = _Heard()
        link.start(heard, LIMITS)
        await asyncio.sleep(1.0)
        link.doubt()
        assert not link.is_closed
        os.kill(process.pid, signal.SIGSTOP)
        while not link.is_closed:
            await asyncio.sleep(0.1)
            link.doubt()
        assert "silent for 0.6 s" in str(await heard.ended)
        await link.wait_closed()


async def test_peer_that_stops_reading_is_given_up_within_bounds(open_any_station: Any) -> None:
    bound = 4 * 1024 * 1024
    limits = DataLimits(n_embd=4096, rows_max=64)
    window = Window(SessionId(7), Slot(1), Epoch(1, 1), 0, keep=0, rows=64, encoding="f32")
    settings = LinkSettings(buffer_bytes_max=bound)
    async with asyncio.timeout(20), open_any_station(settings=settings) as station:
        near = await station.dial_data()
        near._transport.pause_reading()
        far = await station.data.get()
        heard = _Heard()
        far.start(heard, limits)
        sent = 0
        while far.send(window, bytes(64 * 4096 * 4)):
            sent += 1
            assert sent < 100
            assert far.buffered_bytes <= bound
            await asyncio.sleep(0.001)
        assert sent >= 3
        assert "stopped reading" in str(await heard.ended)
        await far.wait_closed()
        near.close()
        await near.wait_closed()


async def test_what_arrives_before_the_start_is_bounded(open_any_station: Any) -> None:
    async with asyncio.timeout(10), open_any_station() as station:
        near = await station.dial_control()
        far = await station.control.get()
        near.start(_HeardControl())
        for _ in range(40):
            near.send(Leave("x" * 20_000))
        assert "may wait for the start" in str(await far.wait_closed())
        await near.wait_closed()


class _HeardControl:
    def on_message(self, message: ControlMessage) -> None:
        pass

    def on_closed(self, reason: LinkFault | None) -> None:
        pass


async def test_stopped_peer_does_not_hold_up_closing(
    open_any_station: Any, start_peer: Any
) -> None:
    settings = LinkSettings(close_s=0.3)
    async with (
        asyncio.timeout(30),
        open_any_station(settings=settings) as station,
        start_peer(station) as process,
    ):
        link = await station.data.get()
        link.start(_Heard(), LIMITS)
        os.kill(process.pid, signal.SIGSTOP)
        began_s = time.monotonic()
        link.close()
        assert await link.wait_closed() is None
        assert time.monotonic() - began_s < 2


async def test_link_nobody_starts_is_dropped(open_any_station: Any) -> None:
    async with asyncio.timeout(10), open_any_station() as station:
        near = await station.dial_data(settings=LinkSettings(handshake_s=0.4))
        assert "nobody took the link" in str(await near.wait_closed())
        heard = _Heard()
        near.start(heard, LIMITS)
        assert "nobody took the link" in str(await heard.ended)
        with pytest.raises(RuntimeError, match="started already"):
            near.start(heard, LIMITS)
        far = await station.data.get()
        far.start(_Heard(), LIMITS)
        assert "other side" in str(await far.wait_closed())


async def drain(inbox: ControlInbox) -> tuple[list[ControlMessage], LinkFault | None]:
    """All an inbox gives, and the reason it ended with."""
    got: list[ControlMessage] = []
    try:
        async with asyncio.timeout(5):
            async for message in inbox:
                got.append(message)
    except LinkFault as fault:
        return got, fault
    return got, None


async def test_control_round_trip_and_what_was_said_before_the_start(open_any_station: Any) -> None:
    async with asyncio.timeout(10), open_any_station() as station:
        near = await station.dial_control()
        far = await station.control.get()
        ours = ControlInbox(near)
        far.send(Welcome("node-1"))
        far.send(Beat(5))
        async for message in ours:
            assert message == Welcome("node-1")
            break
        for number in range(100):
            near.send(Leave(str(number)))
        near.close()
        await asyncio.sleep(0.2)
        theirs = ControlInbox(far)
        got, reason = await drain(theirs)
        assert "other side closed" in str(reason)
        assert got == [Leave(str(number)) for number in range(100)]
        assert await near.wait_closed() is None


async def test_refusal_right_after_the_link_stood_is_heard(open_any_station: Any) -> None:
    async with asyncio.timeout(10), open_any_station() as station:

        async def refuse() -> None:
            far = await station.control.get()
            ControlInbox(far)
            far.close(LinkFault("the ring is full", hint="come back later"))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(refuse(), name="refuse")
            near = await station.dial_control()
            await asyncio.sleep(0.2)
            got, reason = await drain(ControlInbox(near))
        assert isinstance(reason, LinkLost)
        assert got == [Refusal("the ring is full", "come back later")]


async def test_control_flood_is_bounded(open_any_station: Any) -> None:
    async with asyncio.timeout(10), open_any_station() as station:
        near = await station.dial_control()
        heard = ControlInbox(near)
        ControlInbox(await station.control.get(), limit=10)
        for _ in range(50):
            near.send(Leave("x" * 1000))
        got, _ = await drain(heard)
        assert got == [Refusal("more than 10 control messages wait to be handled")]
