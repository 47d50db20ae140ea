"""What the gateway and the process of its draft model say to each other."""

from __future__ import annotations

import msgspec

from atoll.domain.generation import SamplingParams
from atoll.engine.channel import Broken


class DraftOptions(msgspec.Struct, frozen=True, tag="start"):
    """The first message: what to load and how.

    Weights and caches take `need_bytes`. `device` is empty for the processor. Up to
    `hints_max` hints of a session are looked at in one call.
    """

    model: str
    n_slots: int
    context: int
    rows_max: int
    threads: int
    threads_large: int
    hints_max: int
    need_bytes: int = 0
    device: str = ""


class Wanted(msgspec.Struct, frozen=True, tag="w", array_like=True):
    """Take tokens in at positions [keep, keep + len(tokens)), then guess the `n` that follow.

    `hints` are guesses from elsewhere at the first of them: those that the model would
    have made too cost it one call together.
    """

    slot: int
    keep: int
    tokens: tuple[int, ...]
    hints: tuple[int, ...]
    n: int
    sampling: SamplingParams


class RunDraft(msgspec.Struct, frozen=True, tag="run"):
    """Guess for several slots at once, each at most one time."""

    batch: int
    wanted: tuple[Wanted, ...]


class DraftLoaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The answer to `DraftOptions`; `device` is for people."""

    build: str
    n_vocab: int
    load_s: float
    isolation: tuple[str, ...]
    device: str


class Drafted(msgspec.Struct, frozen=True, array_like=True):
    """Guesses at one slot's next tokens; none, and why, where it could not be computed."""

    tokens: tuple[int, ...] = ()
    problem: str = ""


class DraftDone(msgspec.Struct, frozen=True, tag="done"):
    """The answer to `RunDraft` number `batch`, in its order, and what it took."""

    batch: int
    drafted: tuple[Drafted, ...]
    took_s: float


DraftMessage = DraftOptions | RunDraft
DraftReply = DraftLoaded | DraftDone | Broken
