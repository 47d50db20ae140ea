"""Paces for tests, with round figures."""

from __future__ import annotations

from atoll.forecast.models import shipped_models
from atoll.forecast.paces import Pace

SHAPE = shipped_models().shapes.find("Llama-3.1-8B")
POSITION = SHAPE.cached_positions(1.0)
"""Of all layers: what a position of the context takes of the room."""


def server(*, streams: int = 8, room: float = 1e9, way_s: float = 0.0, row_s: float = 0.0) -> Pace:
    """A step takes 10 ms, a prompt's position 0.1 ms."""
    return Pace(
        shape=SHAPE,
        fixed_s=lambda rows: 0.01 + row_s * rows,
        position_s=0.0,
        operation_s=1e-4 / SHAPE.token_flops(0.5),
        chunk=(500, 500),
        room=room * POSITION,
        streams_max=streams,
        first_s=way_s,
        watts=(1000.0, 300.0),
        hourly=2.0,
    )


def ring(*, lap_s: float = 0.1, works_s: float = 0.01, streams: int = 8) -> Pace:
    """A lap takes 100 ms, of which the slowest machine works 10; a prompt's position 0.1 ms."""
    return Pace(
        shape=SHAPE,
        fixed_s=lambda rows: max(lap_s, works_s * rows),
        position_s=0.0,
        operation_s=1e-4 / SHAPE.token_flops(0.5),
        chunk=(400, 200),
        room=1e9 * POSITION,
        streams_max=streams,
        first_s=0.05,
        flights=4,
        slowest_s=lambda rows: works_s * rows,
        watts=(400.0, 100.0),
    )
