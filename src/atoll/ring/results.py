"""What the ends computed: tokens for clients, windows that are ready, and failures."""

from __future__ import annotations

from typing import Protocol

from atoll.ring.coordinator_messages import (
    CoordinatorEffect,
    Emit,
    EndsDone,
    EndsFailed,
    EndsItem,
    EndsResult,
    Finished,
    HeadDone,
    HeadItem,
    TailDone,
    TailItem,
)
from atoll.ring.departures import Departures, Ready
from atoll.ring.ends_turns import EndsTurns, Turn
from atoll.ring.messages import Fault, ItemFailed
from atoll.ring.pace import Pace
from atoll.ring.session import Session
from atoll.ring.tenants import Tenants


class Sessions(Protocol):
    """Whoever begins and ends sessions."""

    effects: list[CoordinatorEffect]
    pace: Pace

    @property
    def is_paused(self) -> bool:
        """Whether sessions wait for a part of the ring."""
        ...

    def fail(self, session: Session, fault: Fault) -> None:
        """A session ends early."""

    def end(self, session: Session, *, well: bool = False) -> None:
        """A session has ended."""

    def drop_stale(self, session: Session) -> None:
        """A guess was wrong."""


class EndsResults:
    """Takes what the ends answer.

    Args:
        ring: Ends sessions, and takes effects.
        turns: What was asked.
        tenants: Free slots of sessions that have ended meanwhile.
        departures: Takes windows that are ready.
    """

    def __init__(
        self, ring: Sessions, turns: EndsTurns, tenants: Tenants, departures: Departures
    ) -> None:
        self._ring = ring
        self._turns = turns
        self._tenants = tenants
        self._departures = departures

    def take(self, event: EndsDone | EndsFailed) -> None:
        """The ends have answered."""
        turns = self._turns.end()
        if isinstance(event, EndsFailed):
            self._end_turns(turns, event.problem)
            return
        results, took_s = event.results, event.took_s
        if decoded := sum(turn.decoded for turn in turns):
            self._ring.pace.note_ends(decoded, took_s)
        if len(results) != len(turns):
            self._end_turns(turns, f"the ends gave {len(results)} of {len(turns)} results")
            return
        for turn, result in zip(turns, results, strict=True):
            if turn.session.live:
                self._result(turn.session, turn.item, result)
            else:
                self._ring.effects += self._tenants.free_if_done(turn.session)

    def _end_turns(self, turns: list[Turn], problem: str) -> None:
        for turn in turns:
            if turn.session.live:
                self._ring.fail(turn.session, Fault("engine", problem))
            else:
                self._ring.effects += self._tenants.free_if_done(turn.session)

    def _result(self, session: Session, item: EndsItem, result: EndsResult) -> None:
        match item, result:
            case HeadItem(), HeadDone() if self._ring.is_paused:
                return  # it enters again
            case HeadItem(), HeadDone(payload):
                self._departures.add(Ready(session, item.keep, len(item.tokens), payload))
            case TailItem(), TailDone():
                self._tail_done(session, item, result)
            case _, ItemFailed(problem):
                self._ring.fail(session, Fault("engine", problem))
            case _:
                self._ring.fail(session, Fault("engine", "the ends answered another question"))

    def _tail_done(self, session: Session, item: TailItem, done: TailDone) -> None:
        session.passed = item.keep + item.rows
        if session.is_prompt(item.keep):
            session.chunk_back(item.rows)
        if not item.sample:
            return
        problem, sampled = done.problem(item), done.sampled
        if problem or sampled is None:
            self._ring.fail(session, Fault("engine", problem))
            return
        session.sampled += 1 + len(done.accepted)
        session.tokens += [token.token for token in (*done.accepted, sampled)]
        self._ring.effects += [Emit(session.client, token) for token in (*done.accepted, sampled)]
        if sampled.finish is not None:
            self._ring.effects.append(Finished(session.client, session.usage))
            self._ring.end(session, well=True)
            return
        if session.speculation is not None:
            tokens = [token.token for token in (*done.accepted, sampled)]
            if session.speculation.sampled(tokens, chained=item.chain):
                self._ring.drop_stale(session)
        if done.payload is not None and not self._ring.is_paused:
            self._departures.add(Ready(session, item.keep + item.rows, 1, done.payload))
