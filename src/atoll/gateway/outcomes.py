"""How a session ended, from the coordinator's short codes to errors that a client gets."""

from __future__ import annotations

from atoll.domain.errors import AtollError, BadRequest, EngineFault, Overloaded, RingDown


def rejection(code: str, problem: str, retry_after_s: int | None) -> AtollError:
    """The error for a request that was not begun."""
    if code == "overloaded":
        return Overloaded(problem, retry_after_s=retry_after_s or 1, hint="try again shortly")
    if code == "too_long":
        return BadRequest(problem, hint="send a shorter prompt", param="messages")
    if code == "bad_request":
        return BadRequest(problem)
    return RingDown(problem, hint="try again shortly")


def failure(code: str, problem: str) -> AtollError:
    """The error for a session that ended early."""
    if code == "ring_down":
        return RingDown(problem, hint="try again shortly")
    return EngineFault(f"{problem} ({code})", hint="send the request again")
