"""What no plan can beat: a lower bound, to hold a heuristic's plan against."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.plan.cut import Share


def least_lap_s(
    shares: Sequence[Share], reach_s: Sequence[float], back_s: float, n_layers: int
) -> float:
    """A lap that is not longer than any plan's: seconds without the ends.

    Each layer may go to a node in part, and pays its part of what the node costs at
    all: its overhead and the shortest link that leads to it. A node that is used
    pays at least that, so the cheapest such filling is a lower bound.

    Args:
        shares: All nodes.
        reach_s: The shortest link to each of them.
        back_s: The shortest link to the gateway.
        n_layers: Layers to be placed.

    Raises:
        ValueError: They do not fit.
    """
    costs = sorted(
        (share.layer_s + (share.overhead_s + reach) / most, most)
        for share, reach in zip(shares, reach_s, strict=True)
        if (most := min(share.layers_max, n_layers)) > 0
    )
    left, found_s = n_layers, back_s
    for layer_s, most in costs:
        taken = min(left, most)
        found_s += taken * layer_s
        left -= taken
        if not left:
            return found_s
    raise ValueError("the layers do not fit")


def least_busy_s(shares: Sequence[Share], n_layers: int) -> float:
    """A busiest stage that no cut over any of these nodes is under, seconds.

    All nodes at once, each with layers in part, would take so long at least.
    """
    usable = [share for share in shares if share.layers_max > 0]
    low, high = 0.0, max(s.overhead_s + s.layer_s * s.layers_max for s in usable)
    for _ in range(60):
        middle = (low + high) / 2
        room = sum(min(s.layers_max, max(0.0, (middle - s.overhead_s) / s.layer_s)) for s in usable)
        low, high = (middle, high) if room < n_layers else (low, middle)
    return low
