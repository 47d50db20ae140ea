"""Who may begin, and whose prompt enters next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId, Slot
from atoll.ring.admission import Prefill, objection
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import Submit
from atoll.ring.session import Session

CONFIG = CoordinatorConfig(
    n_slots=2, context=40, rows_max=8, chunk_rows=8, exact_chunk_rows=8, waiting_max=1
)


def submit(prompt: int, tokens: int = 4) -> Submit:
    return Submit(SessionId(1), GenerateRequest(tuple(range(prompt)), tokens))


def session(number: int, prompt: int) -> Session:
    request = GenerateRequest(tuple(range(prompt)), 4)
    return Session.begin(SessionId(number), Slot(number), request, CONFIG)


@pytest.mark.parametrize(
    ("asked", "up", "active", "waiting", "code"),
    [
        (submit(0), True, 0, 0, "bad_request"),
        (submit(3, 0), True, 0, 0, "bad_request"),
        (submit(41), True, 0, 0, "too_long"),
        (submit(3), False, 0, 0, "ring_down"),
        (submit(3), True, 2, 1, "overloaded"),
    ],
)
def test_who_may_not(asked: Submit, up: bool, active: int, waiting: int, code: str) -> None:
    refusal = objection(asked, CONFIG, up=up, active=active, waiting=waiting)
    assert refusal is not None
    assert refusal.code == code
    assert (refusal.retry_after_s is not None) == (code in ("ring_down", "overloaded"))


def test_who_may() -> None:
    assert objection(submit(40), CONFIG, up=True, active=2, waiting=0) is None
    assert objection(submit(1), CONFIG, up=True, active=1, waiting=1) is None


def test_chunks_in_turns_about_one_full_chunk_at_a_time() -> None:
    prefill = Prefill(CONFIG)
    for one in (session(0, 20), session(1, 3), session(2, 3)):
        prefill.add(one)
    taken = [[(s.id, len(i.tokens)) for s, i in prefill.next_chunks(9)] for _ in range(4)]
    assert taken == [[(0, 8)], [(1, 3), (2, 3)], [(0, 8)], [(0, 4)]]
    assert not prefill.waits
    assert prefill.next_chunks(9) == []


def test_no_more_than_there_is_room_for() -> None:
    prefill = Prefill(CONFIG)
    prefill.add(session(0, 3))
    prefill.add(session(1, 3))
    assert prefill.next_chunks(0) == []
    assert len(prefill.next_chunks(1)) == 1
    prefill.clear()
    assert not prefill.waits


def took(prefill: Prefill, beside: int) -> list[tuple[int, int]]:
    return [(s.id, len(i.tokens)) for s, i in prefill.next_chunks(9, beside=beside)]


def prefill_of(*prompts: int) -> tuple[Prefill, list[Session]]:
    prefill = Prefill(replace(CONFIG, beside_rows=3))
    sessions = [session(number, prompt) for number, prompt in enumerate(prompts)]
    for one in sessions:
        prefill.add(one)
    return prefill, sessions


def test_beside_others_chunks_are_small_and_few() -> None:
    prefill, [one] = prefill_of(20)
    assert [took(prefill, 2) for _ in range(3)] == [[(0, 3)], [(0, 3)], []]
    assert prefill.on_way == 6
    one.chunk_back(3)
    assert took(prefill, 2) == [(0, 3)]
    # Nobody decodes any more.
    assert took(prefill, 0) == [(0, 8)]
    assert (prefill.on_way, prefill.waits) == (14, True)


def test_beside_others_large_chunks_have_to_be_through_first() -> None:
    prefill, [one] = prefill_of(20)
    assert took(prefill, 0) == [(0, 8)]
    assert took(prefill, 1) == []
    one.chunk_back(8)
    assert took(prefill, 1) == [(0, 3)]


def test_beside_others_prompts_share_what_may_be_on_its_way() -> None:
    prefill, [one, other, _] = prefill_of(2, 2, 1)
    assert took(prefill, 1) == [(0, 2)]
    assert took(prefill, 1) == []
    one.chunk_back(2)
    assert took(prefill, 1) == [(1, 2), (2, 1)]
    # Who is over has nothing on its way.
    prefill.drop(other)
    assert prefill.on_way == 1


def test_no_heed_of_others() -> None:
    prefill, _ = prefill_of(20)
    heedless = Prefill(replace(CONFIG, beside_rows=0))
    for of in (prefill, heedless):
        of.clear()
        of.add(session(5, 20))
    assert took(heedless, 1) == took(prefill, 0) == [(5, 8)]
