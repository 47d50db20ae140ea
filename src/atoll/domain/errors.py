"""Errors a person can act on: what is wrong, and what to do about it.

Everything that may reach a user derives from `AtollError`. Each edge (command
line, gateway, link) renders it in one place. Mistakes in our own code use the
built-in exceptions instead.
"""

from __future__ import annotations


class AtollError(Exception):
    """A problem with its remedy.

    Args:
        problem: What is wrong, one sentence without a full stop.
        hint: What the reader can do about it.
    """

    exit_code: int = 1

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.problem} ({self.hint})" if self.hint else self.problem


class BadModel(AtollError):
    """A model file that is damaged, hostile, or not what it claims to be."""

    exit_code = 3


class CannotCut(AtollError):
    """A model that cannot be cut where the plan wants it."""

    exit_code = 3


class PullFailed(AtollError):
    """A model that could not be brought here."""

    exit_code = 4


class EngineFault(AtollError):
    """The engine is missing, of another build, or its process died."""

    exit_code = 5


class LinkFault(AtollError):
    """A link that was refused, broke, or carried something it must not."""

    exit_code = 6


class NotLetIn(LinkFault):
    """The gateway does not let this node in, and will not before a person has acted."""

    exit_code = 9


class ProtocolFault(LinkFault):
    """A peer that said something it may not say."""


class BadRequest(AtollError):
    """A request that cannot be served as it stands."""

    exit_code = 2

    def __init__(self, problem: str, *, hint: str = "", param: str | None = None) -> None:
        super().__init__(problem, hint=hint)
        self.param = param


class Overloaded(AtollError):
    """No room for one more request; worth another try in `retry_after_s`."""

    exit_code = 7

    def __init__(self, problem: str, *, retry_after_s: int, hint: str = "") -> None:
        super().__init__(problem, hint=hint)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(AtollError):
    """A request that was not done by its deadline."""

    exit_code = 7


class SlowReader(AtollError):
    """A client that did not read its answer for too long."""

    exit_code = 7


class RingDown(AtollError):
    """The ring cannot serve: a node is missing or died."""

    exit_code = 7
