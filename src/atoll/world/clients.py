"""Who asks a simulated gateway: each checks what it gets, token by token."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from atoll.domain.errors import AtollError, BadRequest, EngineFault, Overloaded, RingDown
from atoll.domain.generation import GenerateRequest, Sampled
from atoll.sim.fake_model import expected_output
from atoll.sim.traffic import require
from atoll.world.gateway import SimGateway

DEADLINE_S = 45.0
"""A session that takes longer never ends."""
GATEWAY_GONE = "gateway gone"
LEFT = "left"
FINISHED = "finished"

SURVIVES = True
"""Whether a session goes on in the next ring where its own breaks."""


@dataclass(slots=True)
class Session:
    """One session: what was asked, what came, and how it ended."""

    name: str
    request: GenerateRequest
    expected: tuple[Sampled, ...]
    leave_tokens: int | None = None
    tokens: int = 0
    ended: str = ""
    may_fail: bool = False
    """Whether a neighbour lies, whose frames are refused."""

    def take(self, sampled: Sampled) -> None:
        """A token came.

        Raises:
            BrokenInvariant: It is not the one that the whole model says here.
        """
        at = self.tokens
        require(at < len(self.expected), f"{self.name} gets more than {at} tokens")
        due = self.expected[at]
        got = (sampled.token, sampled.piece, sampled.finish)
        want = (due.token, due.piece, due.finish)
        require(got == want, f"{self.name}, token {at}: {got}, not {want}")
        self.tokens += 1

    def fails(self, error: AtollError) -> None:
        """It ended with an error.

        Raises:
            BrokenInvariant: The error says nothing, or should not have come.
        """
        kind = type(error).__name__
        require(bool(error.problem.strip()), f"{self.name} ends with a {kind} that says nothing")
        self.ended = kind
        match error:
            case Overloaded():
                require(self.tokens == 0, f"{self.name} is refused after {self.tokens} tokens")
            case BadRequest():
                require(False, f"{self.name} is called a bad request: {error.problem}")
            case RingDown():
                require(not SURVIVES or not self.tokens, f"{self.name} was not carried on: {error}")
            case EngineFault():
                require(self.may_fail, f"{self.name} ends with a {kind}: {error}")
            case _:
                require(False, f"{self.name} ends with a {kind}: {error}")


async def ask(gateway: SimGateway, session: Session) -> None:
    """Be a client of the gateway as long as it lives; the session's end is noted.

    Raises:
        BrokenInvariant: Something came that should not, or the end did not.
    """
    conductor = gateway.conductor
    problems: list[BaseException] = []

    async def pump() -> None:
        assert conductor is not None
        try:
            async with contextlib.aclosing(conductor.generate(session.request)) as stream:
                if session.leave_tokens == 0:
                    session.ended = LEFT
                    return
                async for sampled in stream:
                    session.take(sampled)
                    if session.tokens == session.leave_tokens:
                        session.ended = LEFT
                        return
        except AtollError as error:
            session.fails(error)
        else:
            whole = session.tokens == len(session.expected)
            require(whole, f"{session.name} ended after {session.tokens} tokens")
            session.ended = FINISHED

    async def guarded() -> None:
        try:
            await pump()
        except Exception as error:  # noqa: BLE001 - the run ends with it, not the gateway
            problems.append(error)

    task = gateway.start(guarded(), session.name) if conductor is not None else None
    if task is None:
        session.ended = GATEWAY_GONE
        return
    done, _ = await asyncio.wait([task], timeout=DEADLINE_S)
    require(bool(done), f"{session.name} has not ended within {DEADLINE_S:g} s")
    if problems:
        raise problems[0]
    session.ended = session.ended or GATEWAY_GONE


def session_of(
    name: str, request: GenerateRequest, gateway: SimGateway, leave_tokens: int | None = None
) -> Session:
    """A session with what the whole model would say."""
    expected = expected_output(request, gateway.manifest.n_layers, gateway.options.context)
    may_fail = any(fault.kind == "liar" for fault in gateway.scenario.faults)
    return Session(name, request, expected, leave_tokens, may_fail=may_fail)
