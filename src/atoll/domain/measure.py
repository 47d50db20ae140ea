"""What a machine measured of itself: how much memory is free, and how long a layer takes.

`Measure` and `Measured` are messages of the control link too. Nothing here is
believed because it came: `order_problem` and `answer_problem` say what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from atoll.domain.ids import ModelId, ShardId

PROBE_ROWS = (1, 4, 16, 64, 256)
"""Window sizes that are timed: a lone token, several streams, and a prompt's chunks."""
SECONDS_MAX = 600.0
"""A layer or an overhead that took longer than this was not measured."""
BYTES_LIMIT = 1 << 60
TIERS_MAX = 64
TEXT_CHARS_MAX = 200
THREADS_MAX = 4096
LAYERS_MAX = 65_536
HASH_CHARS = 64
RAM = "ram"
NODE_S = 0.0005
"""What a window takes in a node's own handlers, which no measurement of its stage sees:
0.49 to 0.66 ms in `python -m bench local`. The stages' reports say it for a ring that runs."""


class TierMemory(msgspec.Struct, frozen=True):
    """One kind of memory; `kind` is `ram`, or a GPU's as in `engine.devices`.

    An integrated GPU uses the machine's memory. 0 bytes: it cannot tell.
    """

    name: str
    kind: str
    free_bytes: int
    total_bytes: int


class WindowTime(msgspec.Struct, frozen=True):
    """What a layer, or both ends together, take for a window of `rows` rows."""

    rows: int
    seconds: float


class ProbeRange(msgspec.Struct, frozen=True):
    """Layers [first, last) that are timed, and their shard's hash; empty: not asked for."""

    first: int
    last: int
    shard: ShardId = ShardId("")

    @property
    def n_layers(self) -> int:
        """How many layers it has."""
        return self.last - self.first


class Measure(msgspec.Struct, frozen=True, tag="measure"):
    """The gateway asks a node to time layers of its model, now.

    `short` is a layer, `long` several, or None where they would be too large:
    the difference of the two is what layers take, the rest what a step takes
    besides. `rows_max` is the most rows that the ring has in a call. `busy`:
    a stage serves on this machine meanwhile. `data_offset` is as in a plan.
    """

    model: ModelId
    n_layers: int
    data_offset: int
    rows_max: int
    short: ProbeRange
    long: ProbeRange | None = None
    busy: bool = False

    @property
    def ranges(self) -> tuple[ProbeRange, ...]:
        """The short one, and the long one if there is one."""
        return (self.short,) if self.long is None else (self.short, self.long)


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """What a node measured. A stage of n layers takes overhead_s + n · seconds(rows).

    `layer_s` is in the order of its rows. `measured_at_s` is seconds since 1970 by
    the node's clock. `busy`: other stages of this machine served meanwhile.
    """

    model: ModelId
    engine_build: str
    device: str
    threads: int
    threads_large: int
    layer_s: tuple[WindowTime, ...]
    overhead_s: float
    memory: tuple[TierMemory, ...]
    measured_at_s: float
    busy: bool = False


class NotMeasured(msgspec.Struct, frozen=True, tag="not_measured"):
    """The node could not measure."""

    problem: str


def rows_for(rows_max: int) -> tuple[int, ...]:
    """The window sizes that a ring with calls of at most `rows_max` rows has measured."""
    return tuple(rows for rows in PROBE_ROWS if rows <= rows_max)


def interpolated(times: Sequence[WindowTime], rows: float) -> float:
    """Seconds for `rows` rows, maybe a mean, from times at rising numbers of rows, one at least.

    Between two measured sizes it is a straight line; below the first one that one's
    time; beyond the last one it grows in proportion to the rows.
    """
    if rows <= times[0].rows:
        return times[0].seconds
    for before, after in pairwise(times):
        if rows <= after.rows:
            share = (rows - before.rows) / (after.rows - before.rows)
            return before.seconds + share * (after.seconds - before.seconds)
    return times[-1].seconds * rows / times[-1].rows


def step_s(layer_s: Sequence[WindowTime], overhead_s: float, layers: int, rows: float) -> float:
    """What a stage is predicted to take for a call, seconds, from handing it over to its answer.

    Args:
        layer_s: Times of a layer.
        overhead_s: What a step takes besides.
        layers: Layers of the stage.
        rows: Rows of the call, maybe a mean.
    """
    return overhead_s + layers * interpolated(layer_s, rows)


def order_problem(order: Measure) -> str:
    """What is wrong with an order to measure; empty if nothing is."""
    ranges = order.ranges
    if not is_hash(order.model) or not all(is_hash(r.shard) for r in ranges):
        return "a model or shard in it is no hash"
    if not 0 < order.n_layers <= LAYERS_MAX:
        return f"a model of {order.n_layers} layers"
    if not all(0 <= r.first < r.last <= order.n_layers for r in ranges):
        return "layers that the model does not have"
    if order.long is not None and order.long.n_layers <= order.short.n_layers:
        return "the long shard is not the longer one"
    if not 0 <= order.data_offset < BYTES_LIMIT or not 0 < order.rows_max <= BYTES_LIMIT:
        return "numbers out of range"
    return ""


def answer_problem(measured: Measured, model: ModelId, rows: Sequence[int]) -> str:
    """What is wrong with a node's answer; empty if nothing is.

    Args:
        measured: The answer.
        model: What was to be measured.
        rows: The window sizes that were to be timed.
    """
    if measured.model != model:
        return "it is of another model"
    if [time.rows for time in measured.layer_s] != list(rows):
        return "other window sizes than asked for"
    seconds = [time.seconds for time in measured.layer_s]
    if not all(math.isfinite(s) and 0 < s <= SECONDS_MAX for s in seconds):
        return "a layer's time that cannot be"
    if any(b < a for a, b in pairwise(seconds)):
        return "more rows that take less time"
    if not (math.isfinite(measured.overhead_s) and 0 <= measured.overhead_s <= SECONDS_MAX):
        return "an overhead that cannot be"
    if not all(0 < n <= THREADS_MAX for n in (measured.threads, measured.threads_large)):
        return "a number of threads that cannot be"
    if not math.isfinite(measured.measured_at_s):
        return "a time of day that cannot be"
    texts = [measured.device, measured.engine_build]
    if len(measured.memory) > TIERS_MAX or any(_is_odd(tier) for tier in measured.memory):
        return "memory that cannot be"
    if any(len(text) > TEXT_CHARS_MAX for text in texts):
        return "a name that is too long"
    return ""


def _is_odd(tier: TierMemory) -> bool:
    sound = 0 <= tier.free_bytes <= tier.total_bytes < BYTES_LIMIT
    return not sound or max(len(tier.name), len(tier.kind)) > TEXT_CHARS_MAX


def is_hash(text: str) -> bool:
    """Whether a text is a SHA-256 as hashes are written here."""
    return len(text) == HASH_CHARS and set(text) <= set("0123456789abcdef")
