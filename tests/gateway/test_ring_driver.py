"""What the gateway does with the frames of its neighbours, right and wrong ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from tests.support.hand_node import Asked, HandNode
from tests.support.rings import wait_until

from atoll.domain.control import PlanNotice
from atoll.domain.errors import EngineFault, RingDown
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import F32, Cancel, Grant, Pong, Refused, Release, Window, signed_part
from atoll.gateway.serve import Gateway
from atoll.net.frames import encode
from atoll.net.identity import verify
from atoll.net.link_kinds import StreamDataLink

pytestmark = [pytest.mark.engine, pytest.mark.network]

N_TOKENS = 12


async def alone(gateway: Gateway, node: HandNode) -> list[int]:
    """What a session says when nothing disturbs it."""
    asked = Asked()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(node.serve())
        await asked.run(gateway, N_TOKENS)
        await wait_until(lambda: gateway.status().active == 0)
        serving.cancel()
    assert asked.error is None
    return asked.tokens


Wrong = Callable[[Window, bytes], bytes]


def changed(payload: bytes | None = None, **changes: Any) -> Wrong:
    def make(window: Window, good: bytes) -> bytes:
        return encode(
            msgspec.structs.replace(window, **changes), good if payload is None else payload
        )

    return make


def nan(window: Window, good: bytes) -> bytes:
    halves = b"\x00\x7e" * ((len(good) - window.rows) // 2)
    return encode(window, halves + good[-window.rows :])


WRONG: dict[str, Wrong] = {
    "NaN": nan,
    "short payload": changed(b"xy"),
    "rows": changed(rows=64),
    "unknown encoding": changed(encoding="int4"),
    "another encoding": lambda w, g: encode(
        msgspec.structs.replace(w, encoding=F32), bytes(4 * 64 * w.rows)
    ),
    "skipped sequence": changed(seq=1),
    "replayed sequence": changed(seq=0, keep=9),
    "position": changed(keep=7),
    "slot": lambda w, payload: encode(
        msgspec.structs.replace(w, slot=Slot((w.slot + 1) % 3)), payload
    ),
    "beyond the credits": changed(follow=200),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_window_has_its_own_session_alone_begin_again(
    ring_gateway: Gateway, hand_node: HandNode, name: str
) -> None:
    await hand_node.form(ring_gateway.join_files[0])
    await ring_gateway.conductor.became_ready.wait()
    expected = await alone(ring_gateway, hand_node)
    good, bad = Asked(), Asked()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(good.run(ring_gateway, N_TOKENS))
        windows = [await hand_node.window()]
        tasks.create_task(bad.run(ring_gateway, N_TOKENS))
        windows.append(await hand_node.window())
        hand_node.up.send(Grant(2))
        (first, first_payload), (second, second_payload) = windows
        link = cast(StreamDataLink, hand_node.down)
        link._write(WRONG[name](second, second_payload))
        hand_node.down.send(first, first_payload)
        serving = tasks.create_task(hand_node.serve())
        await wait_until(lambda: len(bad.tokens) == N_TOKENS, what="the bad session's end")
        await wait_until(lambda: len(good.tokens) == N_TOKENS, what="the good session's end")
        await wait_until(lambda: ring_gateway.status().active == 0, what="the slots")
        serving.cancel()
    assert bad.error is None
    assert bad.tokens == expected
    assert good.error is None
    assert good.tokens == expected
    assert ring_gateway.conductor.health().ready


@pytest.mark.parametrize("epoch", [Epoch(0, 0), Epoch(2**62, 1)])
async def test_windows_of_nobody_are_refused_and_change_nothing(
    ring_gateway: Gateway, hand_node: HandNode, epoch: Epoch
) -> None:
    await hand_node.form(ring_gateway.join_files[0])
    await ring_gateway.conductor.became_ready.wait()
    expected = await alone(ring_gateway, hand_node)
    stray = Window(SessionId(12345), Slot(0), epoch, 0, 0, 1, F32)
    hand_node.down.send(stray, bytes(256))
    refused = await hand_node.down_heard.next_message(Refused)
    assert (refused.session, refused.code) == (12345, "epoch")
    hand_node.down.send(msgspec.structs.replace(stray, epoch=hand_node.plan.epoch), bytes(256))
    refused = await hand_node.down_heard.next_message(Refused)
    assert refused.code == "session"
    assert await alone(ring_gateway, hand_node) == expected


async def test_a_refusal_of_the_first_stage_ends_that_session(
    ring_gateway: Gateway, hand_node: HandNode
) -> None:
    await hand_node.form(ring_gateway.join_files[0])
    await ring_gateway.conductor.became_ready.wait()
    asked = Asked()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asked.run(ring_gateway, N_TOKENS))
        # It begins again once.
        for _ in range(2):
            while not isinstance(window := (await hand_node.up_heard.messages.get())[0], Window):
                assert isinstance(window, Cancel | Release)
                hand_node.down.send(window)
            hand_node.up.send(Refused(window.session, window.seq, "slot", "the slot is taken"))
    assert isinstance(asked.error, EngineFault)
    assert "the slot is taken (slot)" in asked.error.problem
    await wait_released(ring_gateway, hand_node)


async def test_the_way_to_the_first_stage_is_timed_while_windows_go(
    ring_gateway: Gateway, hand_node: HandNode
) -> None:
    await hand_node.form(ring_gateway.join_files[0])
    await ring_gateway.conductor.became_ready.wait()
    expected = await alone(ring_gateway, hand_node)
    driver = ring_gateway.conductor.rings[0].driver
    assert driver is not None
    first = driver.first
    assert first is not None
    before = first.sent_bytes
    hand_node.up.send_flight([(Pong(count), b"") for count in range(50)])
    await wait_until(lambda: first.round_trip_s is not None, what="a round trip")
    assert await alone(ring_gateway, hand_node) == expected
    assert first.sent_bytes > before
    assert ring_gateway.conductor.health().ready


async def wait_released(gateway: Gateway, node: HandNode) -> None:
    """Pass on what is left of a session; its slot is free when its release is back."""
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(node.serve())
        await wait_until(lambda: gateway.status().active == 0, what="the slot")
        serving.cancel()


async def test_a_client_that_leaves_sends_a_signed_cancel_and_release(
    ring_gateway: Gateway, hand_node: HandNode
) -> None:
    await hand_node.form(ring_gateway.join_files[0])
    await ring_gateway.conductor.became_ready.wait()
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(Asked().run(ring_gateway, N_TOKENS))
        window, _ = await hand_node.window()
        asking.cancel()
    cancel = await hand_node.up_heard.next_message(Cancel)
    release = await hand_node.up_heard.next_message(Release)
    assert (cancel.session, cancel.seq) == (window.session, 0)
    assert (release.session, release.slot) == (window.session, window.slot)
    for order in (cancel, release):
        assert verify(hand_node.plan.gateway, order.signature, signed_part(order))
    assert ring_gateway.status().active == 1
    hand_node.down.send(cancel)
    hand_node.down.send(release)
    await wait_until(lambda: ring_gateway.status().active == 0)


@pytest.mark.parametrize(
    "message",
    [
        Release(SessionId(1), Slot(0), Epoch(1, 1), bytes(64)),
        Refused(SessionId(1), 0, "x", "y"),
        Grant(1),
    ],
)
async def test_what_the_last_stage_may_not_say_breaks_the_ring(
    ring_gateway: Gateway, hand_node: HandNode, message: Any
) -> None:
    await hand_node.form(ring_gateway.join_files[0])
    await ring_gateway.conductor.became_ready.wait()
    asked = Asked()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asked.run(ring_gateway, N_TOKENS))
        await hand_node.window()
        hand_node.down.send(message)
        # The ring is linked anew in a further epoch; then its only node leaves.
        await hand_node.heard.next_message(PlanNotice)
        hand_node.control.close()
    assert isinstance(asked.error, RingDown)
    assert await hand_node.down_heard.wait_ended() is not None
    assert not ring_gateway.conductor.health().ready


async def test_what_the_first_stage_may_not_say_breaks_the_ring(
    ring_gateway: Gateway, hand_node: HandNode
) -> None:
    await hand_node.form(ring_gateway.join_files[0])
    await ring_gateway.conductor.became_ready.wait()
    hand_node.up.send(Window(SessionId(1), Slot(0), Epoch(1, 1), 0, 0, 1, F32), bytes(256))
    assert "the first stage sent a Window" in str(await hand_node.up_heard.wait_ended())
    await wait_until(lambda: not ring_gateway.conductor.health().ready)
