"""How many layers each node of a given order gets.

`least_time` minimises the sum of the stages' times, `most_tokens` the period of
a full ring; both take every layer to be of mean size, which transformers' are.
`place` then finds real cut points: of all cuts at allowed boundaries, the one
with the least sum of stage times whose stages stay under a bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """A node as a cut sees it: seconds outside layers, seconds a layer, most layers."""

    overhead_s: float
    layer_s: float
    layers_max: int


def least_time(shares: Sequence[Share], n_layers: int) -> list[int] | None:
    """Layers of each node so that their times' sum is least; each gets one at least.

    The fastest nodes are filled first, which is optimal as costs are linear.
    None if they have no room, or there are more nodes than layers.
    """
    if len(shares) > n_layers or any(share.layers_max < 1 for share in shares):
        return None
    counts = [1] * len(shares)
    left = n_layers - len(shares)
    for i in sorted(range(len(shares)), key=lambda i: shares[i].layer_s):
        more = min(left, shares[i].layers_max - 1)
        counts[i] += more
        left -= more
    return None if left else counts


def most_tokens(
    shares: Sequence[Share], n_layers: int, *, rest_s: float, lanes: int, floor_s: float = 0.0
) -> list[int] | None:
    """Layers of each node so that a full ring's period is least.

    The period is the larger of the lap, `rest_s` and all stages' times, and of
    `lanes` times the slowest stage, which is never below `floor_s`. As the bound on
    a stage rises the second grows and the first shrinks, so the best bound lies
    where they meet; it is searched among the times that a stage can have.
    """
    bounds = sorted(
        {
            share.overhead_s + share.layer_s * count
            for share in shares
            for count in range(1, min(share.layers_max, n_layers) + 1)
        }
    )

    def under(bound_s: float) -> list[int] | None:
        return least_time([_bounded(share, bound_s) for share in shares], n_layers)

    first = bisect_left(bounds, True, key=lambda bound_s: under(bound_s) is not None)
    if first == len(bounds):
        return None

    def lap(bound_s: float) -> float:
        counts = under(bound_s)
        assert counts is not None
        return rest_s + total_s(shares, counts)

    meet = bisect_left(bounds, True, lo=first, key=lambda s: lanes * max(s, floor_s) >= lap(s))
    candidates = [i for i in (meet - 1, meet) if first <= i < len(bounds)]
    best = min(candidates, key=lambda i: max(lap(bounds[i]), lanes * max(bounds[i], floor_s)))
    return under(bounds[best])


def total_s(shares: Sequence[Share], counts: Sequence[int]) -> float:
    """Time of all stages one after the other."""
    return sum(s.overhead_s + s.layer_s * n for s, n in zip(shares, counts, strict=True))


def _bounded(share: Share, bound_s: float) -> Share:
    room = (bound_s - share.overhead_s) / share.layer_s
    # A bound that was made of a whole number of layers must allow them.
    return Share(share.overhead_s, share.layer_s, min(share.layers_max, int(room + 1e-9)))


def place(
    shares: Sequence[Share],
    need: Sequence[int],
    room: Sequence[int],
    weights: Sequence[float],
    boundaries: Sequence[int],
    *,
    bound_s: float,
) -> list[tuple[int, int]] | None:
    """Real cuts for nodes in this order: least sum of stage times, none above `bound_s`.

    Args:
        shares: The nodes; `layers_max` is not looked at.
        need: Bytes of each layer.
        room: Bytes that each node may use.
        weights: Each layer in layers of mean size.
        boundaries: Layers before which a cut may be.
        bound_s: What a stage may take.

    Returns:
        A half-open range for each node, or None if there is no such cut.
    """
    n = len(need)
    cuts = sorted({cut for cut in boundaries if 0 < cut < n} | {0, n})
    bytes_to, weight_to = _sums(need), _sums(weights)
    # best[c]: least time of the stages so far that end at cut c, and where the last began.
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for share, has in zip(shares, room, strict=True):
        reached: dict[int, tuple[float, list[int]]] = {}
        for start, (spent_s, path) in best.items():
            for stop in cuts[bisect_left(cuts, start) + 1 :]:
                stage_s = share.overhead_s + share.layer_s * (weight_to[stop] - weight_to[start])
                if bytes_to[stop] - bytes_to[start] > has or stage_s > bound_s * (1 + 1e-9):
                    break
                found = spent_s + stage_s
                if stop not in reached or found < reached[stop][0]:
                    reached[stop] = (found, [*path, stop])
        best = reached
    if n not in best:
        return None
    ends = best[n][1]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _sums(values: Sequence[float]) -> list[float]:
    found = [0.0]
    for value in values:
        found.append(found[-1] + value)
    return found
