"""What a node and its stage process say to each other."""

from __future__ import annotations

import msgspec

from atoll.domain.bits import Bits
from atoll.engine.channel import Broken
from atoll.engine.parcel_messages import ParcelAnswer, ParcelOrder


class StageOptions(msgspec.Struct, frozen=True, tag="start"):
    """The first message: what to load and how; `device` is empty for the processor."""

    path: str
    n_slots: int
    context: int
    rows_max: int
    threads: int
    threads_large: int
    device: str = ""


class Item(msgspec.Struct, frozen=True, array_like=True):
    """Rows of one slot at positions [keep, keep + rows)."""

    slot: int
    keep: int
    rows: int
    exact: bool
    encoding: str


class Compute(msgspec.Struct, frozen=True, tag="compute"):
    """Run the layers over `items`; the payload is theirs, one after the other."""

    batch: int
    items: tuple[Item, ...]


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """Forget all positions of a slot. No answer."""

    slot: int


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The answer to `StageOptions`; `device` is for people."""

    build: str
    n_embd: int
    n_layers: int
    load_s: float
    isolation: tuple[str, ...]
    device: str
    bits: Bits


class Computed(msgspec.Struct, frozen=True, tag="computed"):
    """The answer to `Compute`; the payload is the outputs, one after the other.

    `problems` has one entry for each item: empty, or why it has no output;
    `sizes` says how many bytes of the payload are its output. `engine_s` is time
    inside llama.cpp, `busy_s` that and the conversion of the rows, seconds.
    """

    batch: int
    problems: tuple[str, ...]
    sizes: tuple[int, ...]
    engine_s: float
    busy_s: float


StageRequest = StageOptions | Compute | Drop | ParcelOrder
StageReply = Loaded | Computed | ParcelAnswer | Broken
