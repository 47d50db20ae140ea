"""What both machines of the ring share: payloads, failed items, refusals, grants."""

from __future__ import annotations

from msgspec import Struct

from atoll.domain.ids import SessionId
from atoll.domain.wire import Window

Payload = bytes | bytearray | memoryview
"""Encoded rows of hidden states; the machines pass it on and never look inside."""


def credits_for(n_slots: int) -> int:
    """Windows a receiver takes before it grants more, agreed by both sides of every hop.

    One decode window of each slot, so that a flight of all of them is never
    split, and room for prefill beside it.
    """
    return n_slots + 32


class Fault(Struct, frozen=True):
    """Why a window is not taken: a short code for programs, a problem for people."""

    code: str
    problem: str


class ItemFailed(Struct, frozen=True):
    """One item of an engine call failed; the others of the call are good."""

    problem: str


class WindowUnusable(Struct, frozen=True):
    """A window whose fault only the driver can see (payload length, NaN).

    Handled like a window that the machine itself refuses with `code`.
    """

    window: Window
    code: str
    problem: str


class Granted(Struct, frozen=True):
    """The receiver of our windows takes `frames` more."""

    frames: int


class RecordLost(Struct, frozen=True):
    """The driver has let go of what was sent of a session."""

    session: SessionId


class GrantCredit(Struct, frozen=True):
    """Tell the sender of our windows that it may send `frames` more."""

    frames: int


class Refuse(Struct, frozen=True):
    """A frame was not taken. The driver answers its sender with `Refused`.

    `report` says whether the gateway has to hear of it as well: it does not
    when the frame is of another epoch (it says nothing about a session of
    ours) or when the session's first refusal was reported already.
    """

    session: SessionId
    seq: int
    code: str
    problem: str
    report: bool = True
