"""What a stage counts while it serves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What a stage has done since it was loaded; seconds are sums over steps.

    A step is a batch of one row a session, as decoding makes them; `step_rows` are
    the rows of all steps.
    """

    windows: int = 0
    rows: int = 0
    batches: int = 0
    steps: int = 0
    step_rows: int = 0
    engine_s: float = 0.0
    busy_s: float = 0.0
    call_s: float = 0.0
    node_s: float = 0.0
