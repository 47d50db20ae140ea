"""Who is let in of those that may ask: by what their key may use, and by when they would be done.

What costs nothing is looked at first: a request that is refused for its key's sake or
because the ring is full is refused before its body is read. Once its prompt is known it is
looked at again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, replace

from starlette.types import Scope

from atoll.api.allowance import PRIORITIES
from atoll.api.backend import Backend, Demand, Health, ModelCard
from atoll.api.budget import TokenBudget
from atoll.api.errors import ApiError
from atoll.api.keys import ApiKey
from atoll.api.limits import DEADLINE_S_MAX, Limits
from atoll.api.params import Job
from atoll.domain.errors import BadRequest
from atoll.domain.generation import GenerateRequest, Sampled

IDEMPOTENCY_HEADER = b"idempotency-key"
DEADLINE_HEADER = b"x-atoll-deadline-s"
RETRY_AFTER_S = 1
"""Told where it is not known when one of a key's own answers will end."""
_GUEST = "atoll.guest"


@dataclass(frozen=True, slots=True)
class Guest:
    """A request that has passed the gate: its key, since when it is here, and what it holds."""

    key: ApiKey
    since_s: float
    held: ExitStack

    @property
    def priority(self) -> int:
        """As the ring counts it."""
        return PRIORITIES[self.key.priority]


def welcome(scope: Scope, key: ApiKey, held: ExitStack) -> None:
    """A request of `key` is here; what `held` holds is given back when it is answered."""
    scope[_GUEST] = Guest(key, time.monotonic(), held)


class Admission:
    """Lets requests for answers in; one for each gateway.

    Args:
        backend: Says whether the ring has room.
        limits: The deadline of those that name none.
    """

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self.backend: Backend = _Metered(backend, self._used)
        """The backend, where tokens count for the key that asks for them."""
        self._backend = backend
        self._deadline_s = limits.deadline_s
        self._streams: Counter[str] = Counter()
        self._budgets: dict[str, TokenBudget] = {}

    def knock(self, scope: Scope) -> None:
        """Look at a request whose body has not been read.

        One with an idempotency key may ask for an answer that was let in before, so it is
        looked at when its body is known.

        Raises:
            ApiError: 429, the key uses all it may.
            Overloaded: The ring has no room, or is too slow for the deadline.
            BadRequest: The deadline is none.
        """
        guest: Guest = scope[_GUEST]
        deadline_s = self._deadline_of(scope, None)
        if IDEMPOTENCY_HEADER in dict(scope["headers"]):
            return
        self._check_key(guest.key, 1)
        self._backend.check(Demand(guest.key.id, guest.priority, deadline_s))

    def enter(self, scope: Scope, job: Job) -> Job:
        """Let a job in; what it takes counts for its key from now on.

        Returns:
            The job with what its key and its deadline say.

        Raises:
            As `knock`.
        """
        guest: Guest = scope[_GUEST]
        deadline_s = self._deadline_of(scope, job.deadline_s)
        if deadline_s is not None:
            # Reading and tokenising took some of it.
            deadline_s = max(0.0, deadline_s - (time.monotonic() - guest.since_s))
        requests = tuple(
            replace(request, priority=guest.priority, deadline_s=deadline_s)
            for request in job.requests
        )
        self._check_key(guest.key, len(requests))
        self._backend.check(Demand(guest.key.id, guest.priority, deadline_s, requests))
        guest.held.enter_context(self._hold(guest.key.id, len(requests)))
        self._used(guest.key.id, job.prompt_tokens)
        return replace(job, requests=requests)

    def go_on(self, scope: Scope) -> None:
        """A request goes on with an answer that was let in before: it counts, whatever there is."""
        guest: Guest = scope[_GUEST]
        guest.held.enter_context(self._hold(guest.key.id, 1))

    def _deadline_of(self, scope: Scope, asked_s: float | None) -> float | None:
        """The shortest of what header and body ask for; else the gateway's own."""
        sent = dict(scope["headers"]).get(DEADLINE_HEADER)
        named = [s for s in (asked_s, None if sent is None else _seconds(sent)) if s is not None]
        return min(named, default=self._deadline_s or None)

    def _check_key(self, key: ApiKey, streams: int) -> None:
        if key.streams and self._streams[key.id] + streams > key.streams:
            raise _too_much(
                f"this key may have {key.streams} answers at once", "wait for one to end"
            )
        budget = self._budget(key)
        if budget is not None and (wait_s := budget.wait_s(now_s=time.monotonic())):
            raise _too_much(
                f"this key has used its {key.tokens_per_minute} tokens a minute",
                f"try again in {wait_s} s",
                retry_after_s=wait_s,
            )

    def _used(self, key_id: str, tokens: int) -> None:
        if (budget := self._budgets.get(key_id)) is not None:
            budget.take(tokens, now_s=time.monotonic())

    @contextmanager
    def _hold(self, key_id: str, streams: int) -> Iterator[None]:
        self._streams[key_id] += streams
        try:
            yield
        finally:
            self._streams[key_id] -= streams
            if not self._streams[key_id]:
                del self._streams[key_id]

    def _budget(self, key: ApiKey) -> TokenBudget | None:
        if not key.tokens_per_minute:
            self._budgets.pop(key.id, None)
            return None
        now_s = time.monotonic()
        budget = self._budgets.get(key.id)
        if budget is None:
            self._forget_full(now_s)
            budget = self._budgets[key.id] = TokenBudget(key.tokens_per_minute, now_s=now_s)
        elif budget.per_minute != key.tokens_per_minute:
            budget.set_rate(key.tokens_per_minute, now_s=now_s)
        return budget

    def _forget_full(self, now_s: float) -> None:
        """Budgets that are full are as good as new; keys come and go."""
        full = [k for k, b in self._budgets.items() if b.left(now_s=now_s) >= b.per_minute]
        for key_id in full:
            del self._budgets[key_id]


class _Metered:
    """A backend whose tokens are counted, by whose they are."""

    def __init__(self, backend: Backend, used: Callable[[str, int], None]) -> None:
        self._backend = backend
        self._used = used

    @property
    def card(self) -> ModelCard:
        return self._backend.card

    def health(self) -> Health:
        return self._backend.health()

    def check(self, demand: Demand) -> None:
        self._backend.check(demand)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        async with aclosing(self._backend.generate(request)) as tokens:
            async for sampled in tokens:
                self._used(request.group, 1)
                yield sampled


def _seconds(sent: bytes) -> float:
    """The seconds in a header.

    Raises:
        BadRequest: They are none.
    """
    name = DEADLINE_HEADER.decode()
    try:
        seconds = float(sent[:32])
    except ValueError:
        raise BadRequest(f"the header {name} is no number of seconds") from None
    if not 0 < seconds <= DEADLINE_S_MAX:
        raise BadRequest(f"the header {name} is not above 0 and up to {DEADLINE_S_MAX}")
    return seconds


def _too_much(problem: str, hint: str, retry_after_s: int = RETRY_AFTER_S) -> ApiError:
    return ApiError(
        problem,
        hint=hint,
        status=429,
        code="rate_limit_exceeded",
        kind="rate_limit_error",
        headers={"retry-after": str(retry_after_s)},
    )
