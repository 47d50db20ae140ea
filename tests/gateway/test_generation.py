"""A request that outlives the rings it is on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from atoll.domain.errors import AtollError, BadRequest, EngineFault, RingDown
from atoll.domain.generation import GenerateRequest, Sampled
from atoll.domain.ids import SessionId
from atoll.gateway.generation import LOSSES_MAX, Generation
from atoll.gateway.mailbox import Mailbox

REQUEST = GenerateRequest((1, 2), 6)


class Rings:
    """Rings that give so many tokens and break, one after the other; the last one does not."""

    def __init__(self, *lives: int, how: Callable[[], AtollError] = lambda: RingDown("gone")):
        self._lives = list(lives)
        self._how = how
        self.asked: list[tuple[tuple[int, ...], bool]] = []
        self.ended: list[SessionId] = []

    async def find(self, _request: GenerateRequest) -> Rings:
        return self

    def submit(
        self, session: SessionId, request: GenerateRequest, mailbox: Mailbox, *, again: bool
    ) -> None:
        del session
        self.asked.append((request.sampled, again))
        left = range(len(request.sampled), request.max_tokens)
        life = self._lives.pop(0) if self._lives else len(left)
        for at in left[:life]:
            last = at + 1 == request.max_tokens
            mailbox.put(Sampled(at, b"", "length" if last else None, cached=1))
        mailbox.fail(self._how())

    def cancel(self, session: SessionId, reason: str) -> None:
        del reason
        self.ended.append(session)


async def answer(rings: Rings, request: GenerateRequest = REQUEST) -> list[Sampled]:
    return [sampled async for sampled in Generation(request, rings.find).run()]


async def test_it_goes_on_behind_its_tokens() -> None:
    rings = Rings(2, 0, 3)
    tokens = await answer(rings)
    assert [sampled.token for sampled in tokens] == [0, 1, 2, 3, 4, 5]
    assert rings.asked == [((), False), ((0, 1), True), ((0, 1), True), ((0, 1, 2, 3, 4), True)]
    assert len(set(rings.ended)) == 4
    # What another ring had computed was no prompt of the client's.
    assert [sampled.cached for sampled in tokens] == [1, 0, 0, 0, 0, 0]


async def test_it_goes_on_where_another_gateway_left_off() -> None:
    rings = Rings()
    tokens = await answer(rings, GenerateRequest((1, 2), 6, sampled=(0, 1, 2, 3)))
    assert [sampled.token for sampled in tokens] == [4, 5]
    assert rings.asked == [((0, 1, 2, 3), True)]


async def test_what_breaks_ring_after_ring_is_given_up() -> None:
    rings = Rings(*[1] + [0] * LOSSES_MAX)
    with pytest.raises(RingDown, match="gone"):
        await answer(rings)
    assert len(rings.asked) == LOSSES_MAX


async def test_a_computation_that_failed_is_tried_once_more() -> None:
    rings = Rings(1, 0, how=lambda: EngineFault("NaN"))
    with pytest.raises(EngineFault, match="NaN"):
        await answer(rings)
    assert len(rings.asked) == 2
    assert len(await answer(Rings(1, how=lambda: EngineFault("NaN")))) == 6


async def test_what_is_wrong_with_the_request_is_told_at_once() -> None:
    rings = Rings(0, how=lambda: BadRequest("too long"))
    with pytest.raises(BadRequest):
        await answer(rings)
    assert len(rings.asked) == 1
