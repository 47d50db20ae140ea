"""What the gateway and its ends process say to each other."""

from __future__ import annotations

import msgspec

from atoll.domain.bits import Bits
from atoll.domain.generation import GenerateRequest, Sampled
from atoll.engine.channel import Broken
from atoll.engine.parcel_messages import ParcelAnswer, ParcelOrder


class EndsOptions(msgspec.Struct, frozen=True, tag="start"):
    """The first message: what to load and how.

    `head` is the shard of layers [0, k), `tail` that of the last k with the
    output head; the embedding table is read from the model itself. Weights and
    caches of both take `need_bytes`. `device` is empty for the processor. Up to
    `checked_max` rows of a session may have their next tokens sampled in one call.
    """

    model: str
    head: str
    tail: str
    n_slots: int
    context: int
    rows_max: int
    threads: int
    threads_large: int
    need_bytes: int = 0
    device: str = ""
    checked_max: int = 1


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Set up the sampler of a session. No answer."""

    slot: int
    request: GenerateRequest


class Close(msgspec.Struct, frozen=True, tag="close"):
    """Forget the sampler and, unless they are to be kept, the caches of a slot. No answer."""

    slot: int
    keep: bool = False


class Head(msgspec.Struct, frozen=True, tag="h", array_like=True):
    """First layers over prompt tokens at positions [keep, keep + len(tokens))."""

    slot: int
    keep: int
    exact: bool
    encoding: str
    tokens: tuple[int, ...]


class Tail(msgspec.Struct, frozen=True, tag="t", array_like=True):
    """Last layers over a returned window; then perhaps sample, and go on with the token.

    Tokens are sampled behind the last `checked` rows, up to the first that is not the
    one of `guesses` at its place.
    """

    slot: int
    keep: int
    exact: bool
    encoding: str
    rows: int
    sample: bool
    chain: bool
    last: bool
    checked: int = 1
    guesses: tuple[int, ...] = ()


class RunItems(msgspec.Struct, frozen=True, tag="run"):
    """Compute `items`; the payload is the tails' windows, one after the other."""

    batch: int
    items: tuple[Head | Tail, ...]


class EndsLoaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The answer to `EndsOptions`; `device` is for people, `bits` are those of both ends."""

    build: str
    n_embd: int
    n_vocab: int
    load_s: float
    isolation: tuple[str, ...]
    device: str
    bits: tuple[Bits, Bits]


class ItemResult(msgspec.Struct, frozen=True, array_like=True):
    """What became of one item; `size` bytes of the payload are its next window.

    `accepted` are the tokens before the sampled one, each as it was guessed.
    """

    problem: str = ""
    sampled: Sampled | None = None
    size: int = 0
    accepted: tuple[Sampled, ...] = ()


class ItemsDone(msgspec.Struct, frozen=True, tag="done"):
    """The answer to `RunItems` number `batch`, in the items' order.

    `engine_s` and `sampling_s` are what the work took inside the engine and
    outside it, seconds.
    """

    batch: int
    results: tuple[ItemResult, ...]
    engine_s: float
    sampling_s: float


EndsMessage = EndsOptions | Open | Close | RunItems | ParcelOrder
EndsReply = EndsLoaded | ItemsDone | ParcelAnswer | Broken
