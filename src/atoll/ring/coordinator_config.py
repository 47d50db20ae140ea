"""Limits of the `Coordinator`."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.domain.wire import ENCODINGS, F16_SCALED, F32
from atoll.ring.parking import Parking

EXACT_ROWS_MAX = 63
"""Most rows of a session in one engine call that keeps the whole model's bits
(from 64 on the engine takes another kernel)."""


CHUNK_ROWS_MAX = 512
"""Most rows of a prompt's chunk, and of one engine call, unless told."""
CHUNK_ROWS = 256
"""Rows of a chunk where nothing was measured. On three stages that share two cores 1,024 tokens
entered in 3.8 s so, and in 4.5 s in chunks of 512: stages wait less for the first."""
BESIDE_ROWS = 128
"""Rows of a chunk while others decode where nothing was measured. It holds them up half as
long, and costs prompts little: calls of 63 rows took them 7 % longer."""
CHUNKS_IN_FLIGHT = 4
"""Of a session, where nothing was measured."""
GUESS_ROWS = 8
"""Most rows of a window with guesses: all of them get logits, a megabyte each with large
vocabularies, and more windows can follow."""
GUESS_DEPTH = 24
"""Most guesses on their way; where they are seldom right fewer are worth it anyway."""


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """Limits of the gateway's side of a ring; rows, positions and windows are counts.

    Args:
        n_slots: Sessions that may run at once.
        context: Positions a session may have.
        rows_max: Most rows in one engine call.
        chunk_rows: Rows of a prefill window where nobody decodes.
        exact_chunk_rows: The same for an exact session, at most.
        beside_rows: The same while others decode, at most; then there are no more on their
            way than there are lanes for decode flights. 0: prompts take no heed of others.
        waiting_max: Sessions that may wait for a slot.
        lanes: Decode flights on their way at once, the ends counted. 1 where
            all stages share one machine's cores, number of stages + 1 where
            they are apart. Where a loop passes on links it may be more.
        parallel: Flights that the stages' machines can compute at the same time.
        prefill_in_flight: Prefill windows a session may have on their way.
        credits: Windows the first stage takes from us before it grants more.
        return_credits: Windows we take from the last stage before we grant more.
        guess_rows: Most rows of a window with guessed tokens.
        guess_depth: Most guessed tokens of a session on their way; 0: none are guessed.
        draft_model: There is a draft model that guesses.
        reuse: Keep the caches of sessions that ended, for those that begin alike.
        reuse_min: Tokens that must be shared; a slot may suit another request better.
        parking: Whether and how much of what rests leaves the slots as parcels.
        encoding, exact_encoding: How rows travel, by the session's mode.
        retry_after_s: What a rejected client is told to wait, seconds.
    """

    n_slots: int
    context: int
    rows_max: int
    chunk_rows: int = CHUNK_ROWS
    exact_chunk_rows: int = EXACT_ROWS_MAX
    beside_rows: int = BESIDE_ROWS
    waiting_max: int = 64
    lanes: int = 1
    parallel: int = 1
    prefill_in_flight: int = CHUNKS_IN_FLIGHT
    credits: int = 64
    return_credits: int = 64
    guess_rows: int = GUESS_ROWS
    guess_depth: int = 0
    draft_model: bool = False
    reuse: bool = False
    reuse_min: int = 8
    parking: Parking | None = None
    encoding: str = F16_SCALED
    exact_encoding: str = F32
    retry_after_s: int = 2

    def __post_init__(self) -> None:
        counts = (self.n_slots, self.context, self.rows_max, self.chunk_rows)
        lanes = (self.lanes, self.parallel)
        limits = (self.exact_chunk_rows, self.prefill_in_flight, self.credits, self.return_credits)
        zeros = (self.waiting_max, self.guess_depth, self.beside_rows)
        if min(*counts, *lanes, *limits, self.guess_rows, self.reuse_min) < 1 or min(zeros) < 0:
            raise ValueError("every limit of a coordinator is at least 1")
        if max(self.chunk_rows, self.exact_chunk_rows) > self.rows_max:
            raise ValueError(f"a chunk does not fit a call of {self.rows_max} rows")
        if self.exact_chunk_rows > EXACT_ROWS_MAX:
            raise ValueError(f"an exact chunk has at most {EXACT_ROWS_MAX} rows")
        if self.encoding not in ENCODINGS or self.exact_encoding != F32:
            raise ValueError(f"encodings {self.encoding!r}, {self.exact_encoding!r} do not serve")
