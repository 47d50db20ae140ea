"""What a stage does with the frames of its neighbours, right and wrong ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from tests.support.hand_gateway import (
    CONTEXT,
    LIMITS,
    N_EMBD,
    N_SLOTS,
    WAIT_S,
    HandGateway,
    Heard,
    row_at,
)

from atoll.domain.control import SessionFailed, StageUnlinked
from atoll.domain.ids import NO_SESSION, Epoch, SessionId, Slot
from atoll.domain.wire import (
    F16_SCALED,
    F32,
    Cancel,
    Discard,
    Grant,
    Order,
    Park,
    Ping,
    Pong,
    Refused,
    Release,
    Resume,
    Window,
)
from atoll.net.frames import encode
from atoll.net.identity import Identity
from atoll.net.link import DataLink
from atoll.net.link_kinds import StreamDataLink
from atoll.node import stage_complaints
from atoll.ring.messages import credits_for

pytestmark = [pytest.mark.engine, pytest.mark.network]

GOOD, BAD = 7, 8
"""Sessions: one that must never notice anything, one that is misused."""


def write_raw(link: DataLink, data: bytes) -> None:
    """Write bytes that no honest side would."""
    cast(StreamDataLink, link)._write(data)


def raw_frame(header: bytes, payload: bytes = b"") -> bytes:
    return len(header).to_bytes(4, "big") + len(payload).to_bytes(4, "big") + header + payload


async def reference(hand: HandGateway) -> list[bytes]:
    """What the stage computes for the good session's rows, undisturbed."""
    rows = [await hand.computed(99, 0, seq, seq) for seq in range(4)]
    hand.release(99, 0)
    await hand.down_heard.next_message(Release)
    return rows


Wrong = Callable[[HandGateway], tuple[bytes, str]]


def with_window(code: str, payload: bytes = row_at(0), **changes: Any) -> Wrong:
    """A window of the bad session that differs from the due one in these fields."""

    def make(hand: HandGateway) -> tuple[bytes, str]:
        fields = {"epoch": hand.epoch} | changes
        window = msgspec.structs.replace(hand.window(BAD, 1, 1, 1), **fields)
        return encode(window, payload), code

    return make


NAN = np.full(N_EMBD, np.nan, "<f4").tobytes()
INFINITE = (b"\x00\x7c" * N_EMBD) + b"\x00"

WRONG: dict[str, Wrong] = {
    "short payload": with_window("frame", row_at(0)[:-1]),
    "long payload": with_window("frame", row_at(0) + b"x"),
    "no payload": with_window("frame", b""),
    "too many rows": with_window("frame", row_at(0), rows=33),
    "another number of rows": with_window("frame", row_at(0), rows=2),
    "unknown encoding": with_window("frame", row_at(0), encoding="int4"),
    "exact but rounded": with_window("encoding", INFINITE, encoding=F16_SCALED),
    "NaN": with_window("engine", NAN),
    "infinity in halves": with_window("engine", INFINITE, encoding=F16_SCALED, exact=False),
    "gap in the sequence": with_window("seq", seq=2),
    "replay": with_window("seq", seq=0, keep=0),
    "position that leaves a gap": with_window("gap", keep=5),
    "position beyond the context": with_window("keep", keep=CONTEXT),
    "slot of another session": with_window("slot", slot=0),
    "slot that does not exist": with_window("slot", slot=N_SLOTS),
    "a flight that cannot be": with_window("flight", follow=200),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_window_ends_its_own_session_alone(formed: HandGateway, name: str) -> None:
    right = await reference(formed)
    assert await formed.computed(GOOD, 0, 0, 0) == right[0]
    assert await formed.computed(BAD, 1, 0, 0) == right[0]
    data, code = WRONG[name](formed)
    write_raw(formed.up, data)
    refused = await formed.refusal()
    assert (refused.session, refused.code) == (BAD, code)
    assert refused.problem
    report = await formed.heard.next_message(SessionFailed)
    assert (report.session, report.code, report.epoch) == (BAD, code, formed.epoch)
    # Nothing more of the bad session is taken, and the good one does not notice.
    write_raw(formed.up, encode(formed.window(BAD, 1, 2, 2), row_at(2)))
    assert (await formed.refusal()).code == "broken"
    for seq in (1, 2, 3):
        assert await formed.computed(GOOD, 0, seq, seq) == right[seq]
    # The slot is free once it is released, and clean.
    formed.release(BAD, 1)
    await formed.down_heard.next_message(Release)
    assert await formed.computed(11, 1, 0, 0) == right[0]
    assert not formed.running.done()


@pytest.mark.parametrize("epoch", [Epoch(1, 0), Epoch(1, 2), Epoch(2**62, 2**62)])
async def test_a_foreign_epoch_is_refused_and_raises_nothing(
    formed: HandGateway, epoch: Epoch
) -> None:
    right = await reference(formed)
    assert await formed.computed(GOOD, 0, 0, 0) == right[0]
    formed.up.send(formed.window(GOOD, 0, 1, 1, epoch=epoch), row_at(1))
    refused = await formed.refusal()
    assert refused.code == "epoch"
    order = formed.signed(Cancel(SessionId(GOOD), epoch, 9))
    formed.up.send(order)
    assert (await formed.refusal()).code == "epoch"
    formed.up.send(formed.signed(Release(SessionId(GOOD), Slot(0), epoch)))
    assert (await formed.refusal()).code == "epoch"
    # Neither the session nor the stage's epoch has moved.
    assert await formed.computed(GOOD, 0, 1, 1) == right[1]


@pytest.mark.parametrize("kind", [Cancel, Release])
@pytest.mark.parametrize("signature", ["none", "another key's", "of another message"])
async def test_orders_need_the_gateways_signature(
    formed: HandGateway, kind: type[Cancel] | type[Release], signature: str
) -> None:
    right = await reference(formed)
    assert await formed.computed(GOOD, 0, 0, 0) == right[0]
    order: Order = (
        Cancel(SessionId(GOOD), formed.epoch, 5)
        if kind is Cancel
        else Release(SessionId(GOOD), Slot(0), formed.epoch)
    )
    if signature == "another key's":
        order = formed.signed(order, Identity.generate())
    elif signature == "of another message":
        order = msgspec.structs.replace(formed.signed(order), session=SessionId(BAD))
    formed.up.send(order)
    assert (await formed.refusal()).code == "signature"
    report = await formed.heard.next_message(SessionFailed)
    assert (report.session, report.code) == (NO_SESSION, "signature")
    assert await formed.computed(GOOD, 0, 1, 1) == right[1]


async def test_a_replayed_release_frees_no_slot_of_another_session(formed: HandGateway) -> None:
    right = await reference(formed)
    old = formed.signed(Release(SessionId(99), Slot(0), formed.epoch))
    assert await formed.computed(GOOD, 0, 0, 0) == right[0]
    formed.up.send(old)
    await formed.down_heard.next_message(Release)
    assert await formed.computed(GOOD, 0, 1, 1) == right[1]


async def test_a_parcel_goes_on_in_another_slot(formed: HandGateway) -> None:
    """Over real links, out of a real engine and back; without room for it, it is lost."""
    right = await reference(formed)
    for seq in range(3):
        assert await formed.computed(GOOD, 0, seq, seq) == right[seq]
    park = formed.signed(Park(SessionId(GOOD), Slot(0), formed.epoch, 3))
    formed.up.send(park)
    assert await formed.down_heard.next_message(Park) == park
    # Somebody else has the slot meanwhile.
    assert await formed.computed(BAD, 0, 0, 0) == right[0]
    resume = Resume(SessionId(11), Slot(1), formed.epoch, SessionId(GOOD), 3)
    formed.up.send(formed.signed(resume))
    assert await formed.down_heard.next_message(Resume) == formed.signed(resume)
    assert await formed.computed(11, 1, 0, 3) == right[3]
    # It stays until nobody wants it.
    discard = formed.signed(Discard(SessionId(GOOD), formed.epoch))
    formed.up.send(discard)
    assert await formed.down_heard.next_message(Discard) == discard
    late = Resume(SessionId(12), Slot(2), formed.epoch, SessionId(GOOD), 3)
    formed.up.send(formed.signed(late))
    told = await formed.down_heard.next_message(Resume)
    assert told == msgspec.structs.replace(formed.signed(late), lost=True)
    assert await formed.computed(12, 2, 0, 0) == right[0]


@pytest.mark.parametrize("kind", ["park", "resume", "discard"])
async def test_parcels_need_the_gateways_signature(formed: HandGateway, kind: str) -> None:
    right = await reference(formed)
    assert await formed.computed(GOOD, 0, 0, 0) == right[0]
    orders: dict[str, Order] = {
        "park": Park(SessionId(GOOD), Slot(0), formed.epoch, 1),
        "resume": Resume(SessionId(11), Slot(1), formed.epoch, SessionId(GOOD), 1),
        "discard": Discard(SessionId(GOOD), formed.epoch),
    }
    formed.up.send(formed.signed(orders[kind], Identity.generate()))
    assert (await formed.refusal()).code == "signature"
    report = await formed.heard.next_message(SessionFailed)
    assert (report.session, report.code) == (NO_SESSION, "signature")
    assert await formed.computed(GOOD, 0, 1, 1) == right[1]


UNREADABLE = {
    "unknown kind": msgspec.msgpack.encode(["q", 1, 2]),
    "no message": b"\xc1",
    "wrong types": msgspec.msgpack.encode(["w", "a", "b"]),
    "a number beyond its range": encode(
        Window(SessionId(2**64 - 1), Slot(0), Epoch(1, 1), 0, 0, 1, F32)
    )[8:],
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_frame_nobody_can_read_is_answered_and_skipped(
    formed: HandGateway, name: str
) -> None:
    right = await reference(formed)
    assert await formed.computed(GOOD, 0, 0, 0) == right[0]
    # In one write with the good session's next window, cut at an odd place.
    good = encode(formed.window(GOOD, 0, 1, 1), row_at(1))
    data = raw_frame(UNREADABLE[name]) + good
    write_raw(formed.up, data[:13])
    await asyncio.sleep(0.02)
    write_raw(formed.up, data[13:])
    assert (await formed.refusal()).code == "frame"
    report = await formed.heard.next_message(SessionFailed)
    assert (report.session, report.code) == (NO_SESSION, "frame")
    window, payload = await formed.down_heard.next(Window)
    assert (window.session, payload) == (GOOD, right[1])


@pytest.mark.parametrize("side", ["up", "down"])
async def test_heartbeats_are_answered_beside_windows_and_change_nothing(
    formed: HandGateway, side: str
) -> None:
    """Neither asked-for answers nor others reach the stage."""
    right = await reference(formed)
    link: DataLink = getattr(formed, side)
    write_raw(link, b"".join(encode(Ping(count)) + encode(Pong(count)) for count in range(500)))
    assert await formed.computed(GOOD, 0, 0, 0) == right[0]
    async with asyncio.timeout(WAIT_S):
        while link.round_trip_s is None:
            await asyncio.sleep(0.05)
    assert link.round_trip_s > 0
    assert await formed.computed(GOOD, 0, 1, 1) == right[1]
    assert not formed.running.done()


async def test_many_unreadable_frames_end_the_link(formed: HandGateway) -> None:
    for _ in range(17):
        write_raw(formed.up, raw_frame(b"\xc1"))
    failed = await formed.heard.next_message(StageUnlinked)
    assert "upstream link is gone" in failed.problem
    assert "malformed header" in failed.problem


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x00\x00\x00\x0a\xff\xff\xff\xff", "payload of 4294967295 bytes"),
        (b"\xff\xff\xff\xff\x00\x00\x00\x00", "header of 4294967295 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "header of"),
        (encode(Refused(SessionId(1), 0, "x", "y")), "the upstream sent a Refused"),
        (encode(Grant(1)), "the upstream sent a Grant"),
        (encode(Ping(1), b"abc"), "Ping with a payload"),
        (encode(Pong(-1)), "a number is out of range"),
    ],
)
async def test_what_breaks_the_framing_ends_the_link_with_a_reason(
    formed: HandGateway, data: bytes, problem: str
) -> None:
    write_raw(formed.up, data)
    reason = await formed.up_heard.wait_ended()
    assert reason is not None
    assert problem in str(reason)
    failed = await formed.heard.next_message(StageUnlinked)
    assert failed.epoch == formed.epoch
    assert problem in failed.problem
    assert not formed.running.done()


async def test_the_downstream_may_grant_and_refuse_and_nothing_else(formed: HandGateway) -> None:
    right = await reference(formed)
    formed.down.send(Grant(60_000))
    formed.down.send(Refused(SessionId(GOOD), 0, "slot", "taken"))
    assert await formed.computed(GOOD, 0, 0, 0) == right[0]
    formed.down.send(formed.window(GOOD, 0, 1, 1), row_at(1))
    failed = await formed.heard.next_message(StageUnlinked)
    assert "the downstream sent a Window" in failed.problem


async def test_more_windows_than_credits_are_refused(formed: HandGateway) -> None:
    """The downstream grants nothing, so the stage may take only so many."""
    right = await reference(formed)
    given = credits_for(N_SLOTS)
    for seq in range(3 * given):
        formed.up.send(formed.window(BAD, 1, seq, 0), row_at(0))
    refused = await formed.refusal()
    assert refused.code in ("credit", "flight")
    # What the downstream was sent without granting is bounded by its credits.
    await asyncio.sleep(0.3)
    assert formed.down_heard.messages.qsize() <= given
    formed.release(BAD, 1)
    formed.down.send(Grant(given))
    await formed.down_heard.next_message(Release)
    formed.down.send(Grant(given))
    assert await formed.computed(GOOD, 0, 0, 0) == right[0]


async def test_sessions_of_one_flight_share_a_call_and_keep_their_rows(
    formed: HandGateway,
) -> None:
    rows = [row_at(0), row_at(50)]
    right = [await formed.computed(99, 0, 0, 0)]
    formed.up.send(formed.window(99, 0, 1, 0), rows[1])
    right.append((await formed.down_heard.next(Window))[1])
    formed.release(99, 0)
    flight = [
        (formed.window(20 + slot, slot, 0, 0, follow=N_SLOTS - 1 - slot), rows[slot % 2])
        for slot in range(N_SLOTS)
    ]
    formed.up.send_flight(flight)
    for slot in range(N_SLOTS):
        window, payload = await formed.down_heard.next(Window)
        assert (window.session, window.follow) == (20 + slot, N_SLOTS - 1 - slot)
        # Weights of 32 bits round otherwise with several rows in a call.
        assert np.allclose(values(payload), values(right[slot % 2]), rtol=1e-4, atol=1e-5)


def values(payload: bytes) -> Any:
    return np.frombuffer(payload, "<f4")


async def test_a_cancel_drops_what_is_stale(formed: HandGateway) -> None:
    right = await reference(formed)
    assert await formed.computed(GOOD, 0, 0, 0) == right[0]
    formed.up.send(formed.signed(Cancel(SessionId(GOOD), formed.epoch, 1)))
    await formed.down_heard.next_message(Cancel)
    formed.up.send(formed.window(GOOD, 0, 1, 1), row_at(1))  # stale: passed over in silence
    assert await formed.computed(GOOD, 0, 2, 1) == right[1]


async def test_a_second_upstream_link_takes_the_place_of_the_first(formed: HandGateway) -> None:
    right = await reference(formed)
    first = formed.up_heard
    formed.up = await formed.dial()
    formed.up_heard = Heard()
    formed.up.start(formed.up_heard, LIMITS)
    reason = await first.wait_ended()
    assert "another link" in str(reason)
    assert await formed.computed(GOOD, 0, 0, 0) == right[0]


async def test_times_of_others_cannot_make_a_frame_unreadable(formed: HandGateway) -> None:
    formed.up.send(formed.window(GOOD, 0, 0, 0, engine_us=2**63 - 1), row_at(0))
    window, _ = await formed.down_heard.next(Window)
    assert window.engine_us == 2**63 - 1


async def test_who_sends_nothing_but_refused_frames_loses_its_link(
    formed: HandGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_complaints, "REFUSED_MAX", 20)
    for session in range(100, 121):
        formed.up.send(formed.window(session, 0, 5, 5), row_at(0))
    failed = await formed.heard.next_message(StageUnlinked)
    assert "20 frames of the upstream were refused" in failed.problem
