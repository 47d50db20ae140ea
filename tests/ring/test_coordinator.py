from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from atoll.domain.generation import GenerateRequest, Sampled
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Release, Window
from atoll.ring.coordinator import Coordinator
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import (
    Admitted,
    CancelSession,
    CloseEnds,
    CoordinatorEffect,
    Emit,
    EndsDone,
    EndsFailed,
    EndsItem,
    EndsResult,
    Failed,
    Finished,
    HeadDone,
    HeadItem,
    Hold,
    OpenEnds,
    Rejected,
    ReleaseReturned,
    RingDown,
    RingUp,
    RunEnds,
    Send,
    SendCancel,
    SendRelease,
    SessionRefused,
    Submit,
    TailDone,
    TailItem,
    Usage,
    WindowReturned,
)
from atoll.ring.messages import GrantCredit, Granted, ItemFailed, Refuse, WindowUnusable

EPOCH = Epoch(2, 1)
WORD = Sampled(5, b"word")


def config(**changes: Any) -> CoordinatorConfig:
    small = CoordinatorConfig(
        n_slots=4, context=16, rows_max=8, chunk_rows=4, exact_chunk_rows=3, waiting_max=2
    )
    return dataclasses.replace(small, **changes)


def request(prompt: int = 3, max_tokens: int = 4, *, exact: bool = False) -> GenerateRequest:
    return GenerateRequest(tuple(range(prompt)), max_tokens, exact=exact)


def up(**changes: int) -> Coordinator:
    coordinator = Coordinator(config(**changes))
    assert coordinator.handle(RingUp(EPOCH)) == []
    return coordinator


def submit(
    c: Coordinator, session: int, ask: GenerateRequest | None = None
) -> list[CoordinatorEffect]:
    return c.handle(Submit(SessionId(session), ask or request()))


def items_of(effects: list[CoordinatorEffect]) -> tuple[EndsItem, ...]:
    (run,) = [e for e in effects if isinstance(e, RunEnds)]
    return run.items


def sent(effects: list[CoordinatorEffect]) -> list[Window]:
    return [e.window for e in effects if isinstance(e, Send)]


def ends(c: Coordinator, *results: EndsResult) -> list[CoordinatorEffect]:
    return c.handle(EndsDone(results))


def back(c: Coordinator, window: Window, payload: bytes = b"r") -> list[CoordinatorEffect]:
    return c.handle(WindowReturned(window, payload))


def released(c: Coordinator, session: int, slot: int) -> list[CoordinatorEffect]:
    return c.handle(ReleaseReturned(Release(SessionId(session), Slot(slot), EPOCH)))


def entered(c: Coordinator, session: int, ask: GenerateRequest | None = None) -> Window:
    """Submit a one-chunk session; its first window is on its way."""
    submit(c, session, ask)
    (window,) = sent(ends(c, HeadDone(b"h")))
    return window


def decoding(c: Coordinator, session: int, ask: GenerateRequest | None = None) -> Window:
    """The same, with its first token sampled; its first decode window is on its way."""
    back(c, entered(c, session, ask))
    (window,) = sent(ends(c, TailDone(WORD, b"n")))
    return window


# One session from beginning to end


def test_a_session_from_prompt_to_last_token() -> None:
    c = up()
    ask = request(prompt=3, max_tokens=2)
    one, slot = SessionId(1), Slot(0)
    assert submit(c, 1, ask) == [
        Admitted(one),
        OpenEnds(one, slot, ask),
        RunEnds((HeadItem(one, slot, 0, (0, 1, 2), False, "f16s"),)),
    ]
    prompt = Window(one, slot, EPOCH, 0, 0, 3, "f16s")
    assert ends(c, HeadDone(b"h")) == [Send(prompt, b"h")]
    assert back(c, prompt, b"r") == [
        RunEnds((TailItem(one, slot, 0, 3, b"r", False, "f16s", True, True, False),)),
        GrantCredit(1),
    ]
    step = Window(one, slot, EPOCH, 1, 3, 1, "f16s")
    assert ends(c, TailDone(WORD, b"n")) == [Emit(one, WORD), Send(step, b"n")]
    assert back(c, step, b"q")[0] == RunEnds(
        (TailItem(one, slot, 3, 1, b"q", False, "f16s", True, False, True),)
    )
    last = Sampled(6, b"end", "length")
    assert ends(c, TailDone(last)) == [
        Emit(one, last),
        Finished(one, Usage(3, 2)),
        SendRelease(one, slot),
        CloseEnds(one, slot),
    ]
    assert c.active == 1
    assert released(c, 1, 0) == []
    assert c.active == 0


def test_an_end_token_ends_early() -> None:
    c = up()
    back(c, decoding(c, 1))
    stop = Sampled(2, b"", "stop")
    effects = ends(c, TailDone(stop))
    assert effects[:2] == [Emit(SessionId(1), stop), Finished(SessionId(1), Usage(3, 2))]


def test_the_context_ends_a_session() -> None:
    c = up()
    # The last token of 16 positions needs no position: 3 + 14 - 1 = 16.
    window = decoding(c, 1, request(prompt=3, max_tokens=99))
    for _ in range(12):
        (item,) = items_of(back(c, window))
        assert isinstance(item, TailItem)
        assert not item.last
        (window,) = sent(ends(c, TailDone(WORD, b"n")))
    assert window.keep == 15
    (item,) = items_of(back(c, window))
    assert isinstance(item, TailItem)
    assert (item.last, item.chain) == (True, False)


def test_a_prompt_that_fills_the_context_gets_one_token() -> None:
    c = up(prefill_in_flight=9)
    submit(c, 1, request(prompt=16, max_tokens=9))
    windows = [sent(ends(c, HeadDone(b"h")))[0] for _ in range(4)]
    last_items: tuple[EndsItem, ...] = ()
    for window in windows:
        last_items = items_of(back(c, window))
        if window is not windows[-1]:
            ends(c, TailDone())
    (item,) = last_items
    assert isinstance(item, TailItem)
    assert (item.sample, item.last, item.chain) == (True, True, False)


# Prefill


def test_chunks_overlap_and_only_the_last_samples() -> None:
    c = up()
    submit(c, 1, request(prompt=10))
    windows: list[Window] = []
    for keep, rows in ((0, 4), (4, 4), (8, 2)):
        effects = ends(c, HeadDone(b"h"))
        windows += sent(effects)
        assert (windows[-1].keep, windows[-1].rows, windows[-1].follow) == (keep, rows, 0)
    assert [w.seq for w in windows] == [0, 1, 2]
    for window, sample in zip(windows, (False, False, True), strict=True):
        (item,) = items_of(back(c, window))
        assert isinstance(item, TailItem)
        assert (item.sample, item.chain) == (sample, sample)
        effects = ends(c, TailDone(WORD, b"n") if sample else TailDone())
    assert [w.keep for w in sent(effects)] == [10]


def test_a_session_has_few_chunks_on_their_way() -> None:
    c = up(prefill_in_flight=1)
    submit(c, 1, request(prompt=6))
    effects = ends(c, HeadDone(b"h"))
    (first,) = sent(effects)
    assert not any(isinstance(e, RunEnds) for e in effects)
    items_of(back(c, first))
    (head,) = items_of(ends(c, TailDone()))
    assert isinstance(head, HeadItem)
    assert (head.keep, head.tokens) == (4, (4, 5))


def test_exact_sessions_travel_in_f32_and_small_chunks() -> None:
    c = up()
    effects = submit(c, 1, request(prompt=5, exact=True))
    (head,) = items_of(effects)
    assert isinstance(head, HeadItem)
    assert (head.tokens, head.exact, head.encoding) == ((0, 1, 2), True, "f32")
    (window,) = sent(ends(c, HeadDone(b"h")))
    assert (window.exact, window.encoding) == (True, "f32")


def test_small_prompts_share_a_call_of_the_ends() -> None:
    c = up()
    submit(c, 1, request(prompt=4))
    for session in (2, 3, 4):
        submit(c, session, request(prompt=2))
    assert [item.session for item in items_of(ends(c, HeadDone(b"h")))] == [2, 3]
    effects = ends(c, HeadDone(b"a"), HeadDone(b"b"))
    # Prefill chunks are flights of one.
    assert [(w.session, w.follow) for w in sent(effects)] == [(2, 0), (3, 0)]


def test_no_chunk_is_computed_that_has_no_credit() -> None:
    c = up(credits=1)
    submit(c, 1, request(prompt=8))
    effects = ends(c, HeadDone(b"h"))
    assert len(sent(effects)) == 1
    assert not any(isinstance(e, RunEnds) for e in effects)
    assert isinstance(items_of(c.handle(Granted(1)))[0], HeadItem)


def test_heads_and_tails_take_turns() -> None:
    c = up(lanes=2)
    first = entered(c, 1)
    submit(c, 2, request(prompt=8))
    back(c, first)
    # The head of session 2 ran; now the tail of 1, though 2 has more to enter.
    assert isinstance(items_of(ends(c, HeadDone(b"h")))[0], TailItem)
    assert isinstance(items_of(ends(c, TailDone(WORD, b"n")))[0], HeadItem)


# Decode flights


def test_what_returns_together_goes_on_together() -> None:
    c = up(lanes=1)
    one = decoding(c, 1)
    two = entered(c, 2)
    back(c, two)
    # The lane is taken: session 2 waits for session 1 and leaves with it.
    assert sent(ends(c, TailDone(WORD, b"n"))) == []
    back(c, one)
    flight = sent(ends(c, TailDone(WORD, b"n")))
    assert [(w.session, w.follow) for w in flight] == [(2, 1), (1, 0)]
    assert not any(isinstance(e, RunEnds) for e in back(c, flight[0]))
    assert [item.session for item in items_of(back(c, flight[1]))] == [2, 1]


def test_sessions_are_spread_over_the_lanes() -> None:
    c = up(lanes=2)
    for session in (1, 2, 3, 4):
        submit(c, session, request(prompt=1))
    windows: list[Window] = []
    for count in (1, 3):
        windows += sent(ends(c, *[HeadDone(b"h")] * count))
    for window in windows:
        back(c, window)
    ends(c, TailDone(WORD, b"n"))
    effects = ends(c, *[TailDone(WORD, b"n")] * 3)
    # Session 1 left alone as it was first; its three fellows need two lanes.
    assert [(w.session, w.follow) for w in sent(effects)] == [(2, 1), (3, 0)]
    assert c.departures.lanes == 2


def test_exact_and_default_never_share_a_flight() -> None:
    c = up(lanes=1)
    one = decoding(c, 1)
    back(c, entered(c, 2, request(exact=True)))
    ends(c, TailDone(WORD, b"n"))
    back(c, one)
    # The exact one waited longer.
    assert [w.session for w in sent(ends(c, TailDone(WORD, b"n")))] == [2]


def test_a_flight_has_no_more_windows_than_credits() -> None:
    c = up(lanes=1, credits=2)
    windows = []
    for session in (1, 2, 3):
        windows.append(entered(c, session))
        c.handle(Granted(1))
    for window in windows:
        back(c, window)
    ends(c, TailDone(WORD, b"n"))
    assert len(sent(ends(c, TailDone(WORD, b"n"), TailDone(WORD, b"n")))) == 0
    c.handle(Granted(9))
    assert c.departures.credits == 2


def test_granted_credits_are_bounded() -> None:
    c = up(credits=3)
    c.handle(Granted(2**62))
    c.handle(Granted(-5))
    assert c.departures.credits == 3


# Admission


def test_slots_are_given_in_order_and_the_queue_is_bounded() -> None:
    c = up(n_slots=2, waiting_max=1)
    assert submit(c, 1)[0] == Admitted(SessionId(1))
    assert submit(c, 2)[0] == Admitted(SessionId(2))
    assert submit(c, 3) == []
    (rejected,) = submit(c, 4)
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.retry_after_s) == ("overloaded", 2)
    assert c.holders() == {0: 1, 1: 2}
    effects = c.handle(CancelSession(SessionId(2), "gone"))
    assert effects[0] == Failed(SessionId(2), "cancelled", "gone", Usage(3, 0))
    assert CloseEnds(SessionId(2), Slot(1)) in effects
    assert Admitted(SessionId(3)) in effects
    assert c.holders() == {0: 1, 1: 3}


def test_a_slot_goes_to_the_higher_priority_and_to_keys_in_turns() -> None:
    c = up(n_slots=1, waiting_max=4)
    whose = [("a", 0), ("a", 0), ("b", 0), ("high", 1)]
    submit(c, 1)
    for number, (group, priority) in enumerate(whose, start=2):
        submit(c, number, dataclasses.replace(request(), group=group, priority=priority))
    order = []
    for _ in whose:
        [running] = c.holders().values()
        c.handle(CancelSession(running, "gone"))
        effects = ends(c, HeadDone(b"h"))
        order += [int(e.session) for e in effects if isinstance(e, Admitted)]
    assert order == [5, 2, 4, 3]


def test_in_a_full_line_who_has_more_of_it_gives_way() -> None:
    c = up(n_slots=1, waiting_max=2)
    for number in (1, 2, 3):
        submit(c, number, dataclasses.replace(request(), group="a"))
    (refused,) = submit(c, 4, dataclasses.replace(request(), group="a"))
    assert isinstance(refused, Rejected)
    assert (refused.session, refused.code) == (4, "overloaded")
    (refused,) = submit(c, 5, dataclasses.replace(request(), group="b"))
    assert isinstance(refused, Rejected)
    assert (refused.session, refused.code, refused.retry_after_s) == (3, "overloaded", 2)
    assert [w.session for w in c.line] == [2, 5]


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (request(prompt=17), "too_long"),
        (request(prompt=0), "bad_request"),
        (request(max_tokens=0), "bad_request"),
    ],
)
def test_requests_that_cannot_be_served(ask: GenerateRequest, code: str) -> None:
    c = up()
    (rejected,) = submit(c, 1, ask)
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.retry_after_s) == (code, None)
    if code == "too_long":
        assert rejected.problem == "the prompt has 17 tokens, the context holds 16"
    assert (c.active, c.waiting) == (0, 0)


def test_a_session_whose_client_does_not_keep_up_waits_for_it() -> None:
    c = up()
    window = decoding(c, 1)
    c.handle(Hold(SessionId(1), held=True))
    assert (c.decoding, c.marks()) == (0, {})
    back(c, window)
    assert sent(ends(c, TailDone(WORD, b"n"))) == []
    [window] = sent(c.handle(Hold(SessionId(1), held=False)))
    assert (window.session, window.keep) == (1, 4)
    assert c.decoding == 1
    # Nobody else is meant, and a waiting session has nothing to hold.
    assert c.handle(Hold(SessionId(99), held=True)) == []


def test_a_held_session_can_be_given_up() -> None:
    c = up()
    window = decoding(c, 1)
    c.handle(Hold(SessionId(1), held=True))
    back(c, window)
    ends(c, TailDone(WORD, b"n"))
    effects = c.handle(CancelSession(SessionId(1), "gone"))
    assert effects[0] == Failed(SessionId(1), "cancelled", "gone", Usage(3, 2))
    released(c, 1, 0)
    assert c.holders() == {}


def test_a_session_that_waits_can_be_given_up() -> None:
    c = up(n_slots=1)
    submit(c, 1)
    submit(c, 2)
    assert c.handle(CancelSession(SessionId(2), "gone")) == [
        Rejected(SessionId(2), "cancelled", "gone")
    ]
    assert c.handle(CancelSession(SessionId(99), "never was")) == []


def test_a_session_is_submitted_once() -> None:
    c = up()
    submit(c, 1)
    with pytest.raises(ValueError, match="submitted twice"):
        submit(c, 1)


# Cancel and release


def test_a_cancelled_session_is_cleared_from_the_ring() -> None:
    c = up(n_slots=1)
    window = decoding(c, 1)
    submit(c, 2)
    assert c.handle(CancelSession(SessionId(1), "gone")) == [
        Failed(SessionId(1), "cancelled", "gone", Usage(3, 1)),
        SendCancel(SessionId(1), 1),
        SendRelease(SessionId(1), Slot(0)),
        CloseEnds(SessionId(1), Slot(0)),
    ]
    # What was on its way is ignored, its credit goes back; the slot is still taken.
    assert back(c, window) == [GrantCredit(1)]
    assert c.holders() == {0: 1}
    assert released(c, 1, 0)[0] == Admitted(SessionId(2))
    assert c.holders() == {0: 2}


def test_a_session_at_the_ends_is_closed_when_they_are_done() -> None:
    c = up()
    back(c, decoding(c, 1))
    effects = c.handle(CancelSession(SessionId(1), "gone"))
    assert not any(isinstance(e, CloseEnds) for e in effects)
    released(c, 1, 0)
    assert c.active == 1
    assert ends(c, TailDone(WORD, b"n")) == [CloseEnds(SessionId(1), Slot(0))]
    assert c.active == 0


def test_a_ready_window_of_a_cancelled_session_stays() -> None:
    c = up(lanes=1)
    decoding(c, 1)
    back(c, entered(c, 2))
    ends(c, TailDone(WORD, b"n"))
    assert c.departures.waiting == 1
    # Session 2 has no window on its way: nothing to cancel.
    effects = c.handle(CancelSession(SessionId(2), "gone"))
    assert effects[1:] == [SendRelease(SessionId(2), Slot(1)), CloseEnds(SessionId(2), Slot(1))]
    assert c.departures.waiting == 0


def test_a_cancel_frees_the_lane() -> None:
    c = up(lanes=1)
    decoding(c, 1)
    back(c, entered(c, 2))
    ends(c, TailDone(WORD, b"n"))
    assert [w.session for w in sent(c.handle(CancelSession(SessionId(1), "gone")))] == [2]


@pytest.mark.parametrize(
    "bad",
    [
        Release(SessionId(7), Slot(0), EPOCH),
        Release(SessionId(1), Slot(0), EPOCH),
        Release(SessionId(1), Slot(0), Epoch(1, 1)),
    ],
)
def test_a_release_nobody_waits_for_frees_nothing(bad: Release) -> None:
    c = up()
    window = decoding(c, 1)
    assert c.handle(ReleaseReturned(bad)) == []
    assert items_of(back(c, window))


# Windows that are refused


BAD_RETURNS = [
    ({"seq": 0}, "seq"),
    ({"seq": 2}, "seq"),
    ({"slot": 1}, "slot"),
    ({"keep": 2}, "keep"),
    ({"rows": 2}, "rows"),
    ({"encoding": "f32"}, "encoding"),
    ({"exact": True}, "encoding"),
    ({"follow": -1}, "flight"),
    ({"follow": 2**62}, "flight"),
]


@pytest.mark.parametrize(("changes", "code"), BAD_RETURNS)
def test_a_wrong_window_fails_its_session_alone(changes: dict[str, object], code: str) -> None:
    c = up(lanes=2)
    one, two = decoding(c, 1), decoding(c, 2)
    fields = {f: getattr(one, f) for f in one.__struct_fields__}
    effects = back(c, Window(**{**fields, **changes}))
    refuse, failed = effects[:2]
    assert isinstance(refuse, Refuse)
    assert isinstance(failed, Failed)
    assert (refuse.session, refuse.code, refuse.report) == (1, code, False)
    assert (failed.session, failed.code) == (1, code)
    assert GrantCredit(1) in effects
    assert [item.session for item in items_of(back(c, two))] == [2]


def test_foreign_epochs_and_strangers_fail_nobody() -> None:
    c = up()
    one = decoding(c, 1)
    fields = {f: getattr(one, f) for f in one.__struct_fields__}
    (refuse,) = back(c, Window(**{**fields, "epoch": Epoch(9, 9)}))
    assert isinstance(refuse, Refuse)
    assert refuse.code == "epoch"
    refuse, grant = back(c, Window(**{**fields, "session": 77}))
    assert isinstance(refuse, Refuse)
    assert (refuse.code, grant) == ("session", GrantCredit(1))
    assert items_of(back(c, one))


def test_a_window_without_credit_fails_its_session() -> None:
    c = up(lanes=4, return_credits=1)
    one, two = decoding(c, 1), decoding(c, 2)
    submit(c, 3)
    # The ends are busy with session 3, so the first window keeps its credit.
    back(c, one)
    effects = back(c, two)
    assert [e.code for e in effects if isinstance(e, Failed)] == ["credit"]
    assert not any(isinstance(e, GrantCredit) for e in effects)


def test_what_the_driver_finds_unusable() -> None:
    c = up()
    window = decoding(c, 1)
    effects = c.handle(WindowUnusable(window, "payload", "not a number"))
    assert effects[:2] == [
        Refuse(SessionId(1), 1, "payload", "not a number", False),
        Failed(SessionId(1), "payload", "not a number", Usage(3, 1)),
    ]


def test_a_refusal_by_a_stage_fails_the_session_once() -> None:
    c = up()
    decoding(c, 1)
    refused = SessionRefused(SessionId(1), 1, "gap", "a gap")
    assert c.handle(refused)[0] == Failed(SessionId(1), "gap", "a gap", Usage(3, 1))
    assert c.handle(refused) == []


# The ends fail


def test_a_failed_item_fails_its_session_alone() -> None:
    c = up(lanes=1)
    one = decoding(c, 1)
    back(c, entered(c, 2))
    ends(c, TailDone(WORD, b"n"))
    back(c, one)
    flight = sent(ends(c, TailDone(WORD, b"n")))
    for window in flight:
        back(c, window)
    effects = ends(c, ItemFailed("no memory"), TailDone(WORD, b"n"))
    assert [(e.session, e.code) for e in effects if isinstance(e, Failed)] == [(2, "engine")]
    assert [w.session for w in sent(effects)] == [1]


@pytest.mark.parametrize(
    "result",
    [
        HeadDone(b"h"),
        TailDone(),
        TailDone(WORD),
        ItemFailed("no memory"),
    ],
)
def test_a_useless_result_fails_the_session(result: EndsResult) -> None:
    c = up()
    back(c, decoding(c, 1))
    (failed, *_) = ends(c, result)
    assert isinstance(failed, Failed)
    assert failed.code == "engine"


def test_a_last_token_must_finish() -> None:
    c = up()
    back(c, entered(c, 1, request(max_tokens=1)))
    (failed, *_) = ends(c, TailDone(WORD, b"n"))
    assert isinstance(failed, Failed)


def test_a_failed_call_fails_its_sessions() -> None:
    c = up()
    back(c, decoding(c, 1))
    assert isinstance(c.handle(EndsFailed("crashed"))[0], Failed)
    c = up()
    back(c, decoding(c, 1))
    assert isinstance(ends(c)[0], Failed)


# The ring goes and comes


def test_without_a_ring_nothing_is_taken() -> None:
    c = Coordinator(config())
    (rejected,) = submit(c, 1)
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.retry_after_s) == ("ring_down", 2)


def test_ring_down_ends_every_session() -> None:
    c = up(n_slots=2)
    window = decoding(c, 1)
    submit(c, 2)
    submit(c, 3)
    effects = c.handle(RingDown("a node left"))
    assert effects == [
        Rejected(SessionId(3), "ring_down", "a node left", 2),
        Failed(SessionId(1), "ring_down", "a node left", Usage(3, 1)),
        Failed(SessionId(2), "ring_down", "a node left", Usage(3, 0)),
        CloseEnds(SessionId(1), Slot(0)),
    ]
    # Session 2 is still at the ends; slot 0 serves the next epoch at once.
    c.handle(RingUp(Epoch(2, 2)))
    assert submit(c, 4)[0] == Admitted(SessionId(4))
    assert c.holders() == {0: 4, 1: 2}
    (refuse,) = back(c, window)
    assert isinstance(refuse, Refuse)
    effects = ends(c, HeadDone(b"h"))
    assert effects[0] == CloseEnds(SessionId(2), Slot(1))
    assert c.holders() == {0: 4}


def test_a_new_epoch_replaces_a_standing_ring() -> None:
    c = up(credits=2)
    decoding(c, 1)
    effects = c.handle(RingUp(Epoch(2, 2)))
    assert [e.code for e in effects if isinstance(e, Failed)] == ["ring_down"]
    assert (c.departures.credits, c.departures.lanes, c.active) == (2, 0, 0)
    with pytest.raises(ValueError, match="does not follow"):
        c.handle(RingUp(Epoch(2, 2)))
