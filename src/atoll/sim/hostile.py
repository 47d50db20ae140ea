"""Frames that a hostile or broken neighbour could send, made from one it has seen."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Window

_HUGE = 2**62


def forge(rng: random.Random, seen: Window, *, held: bool) -> Window:
    """A window that must be refused wherever `seen` was just taken.

    Each differs from an honest one in one respect, so that each check of a
    receiver is the only one that can catch it. `held` says that the receiver
    still holds the slot for the session of `seen`.
    """
    forgeries = (*_FORGERIES, _intruder) if held else _FORGERIES
    return rng.choice(forgeries)(rng, seen)


def _epoch(rng: random.Random, seen: Window) -> Window:
    incarnation, counter = seen.epoch.incarnation, seen.epoch.counter
    foreign = rng.choice(
        (Epoch(incarnation, counter - 1), Epoch(incarnation, counter + 9), Epoch(_HUGE, _HUGE))
    )
    return msgspec.structs.replace(_next(seen), epoch=foreign)


def _replay(_: random.Random, seen: Window) -> Window:
    return seen


def _seq(rng: random.Random, seen: Window) -> Window:
    return msgspec.structs.replace(seen, seq=rng.choice((-1, seen.seq + 1000, _HUGE)))


def _slot(rng: random.Random, seen: Window) -> Window:
    wrong = rng.choice((seen.slot + 1, seen.slot - 1, -1, _HUGE))
    return msgspec.structs.replace(_next(seen), slot=Slot(wrong))


def _stranger(rng: random.Random, seen: Window) -> Window:
    """A session nobody submitted, in some slot, with a window that cannot be its first."""
    session, slot = SessionId(rng.getrandbits(62)), Slot(rng.randrange(6))
    seq, keep = rng.choice(((5, 0), (0, 1)))
    return msgspec.structs.replace(seen, session=session, slot=slot, seq=seq, keep=keep, rows=1)


def _intruder(rng: random.Random, seen: Window) -> Window:
    """A session nobody submitted, well begun, in a slot that another holds."""
    session = SessionId(rng.getrandbits(62))
    return msgspec.structs.replace(seen, session=session, seq=0, keep=0)


def _keep(rng: random.Random, seen: Window) -> Window:
    """Outside the context, or with a gap behind what is held."""
    due = _next(seen)
    return msgspec.structs.replace(due, keep=rng.choice((-1, _HUGE, due.keep + 1, due.keep + 3)))


def _rows(rng: random.Random, seen: Window) -> Window:
    return msgspec.structs.replace(_next(seen), rows=rng.choice((0, -1, 5000, _HUGE)))


def _encoding(_: random.Random, seen: Window) -> Window:
    return msgspec.structs.replace(_next(seen), encoding="q2")


def _flight(rng: random.Random, seen: Window) -> Window:
    return msgspec.structs.replace(_next(seen), follow=rng.choice((-1, 1000, _HUGE)))


def _next(seen: Window) -> Window:
    keep = seen.keep + seen.rows
    return msgspec.structs.replace(seen, seq=seen.seq + 1, keep=keep, rows=1, follow=0)


_FORGERIES: tuple[Callable[[random.Random, Window], Window], ...] = (
    _epoch,
    _replay,
    _seq,
    _slot,
    _stranger,
    _keep,
    _rows,
    _encoding,
    _flight,
)
