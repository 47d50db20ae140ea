"""Equal cut: the same number of layers for every node, as far as cuts are allowed.

The plan for nodes that were not measured. It minimises the sum of squared
lengths, which, as their sum is fixed, is the variance of the lengths.
"""

from __future__ import annotations

from collections.abc import Collection

from atoll.domain.errors import CannotCut


def equal_cut(
    n_layers: int, ends: int, nodes: int, boundaries: Collection[int]
) -> tuple[tuple[int, int], ...]:
    """Cut the layers between the gateway's ends into one range per node.

    Args:
        n_layers: Layers of the model.
        ends: Layers at each end that the gateway keeps itself.
        nodes: How many nodes there are, at least 1.
        boundaries: Layer numbers before which the model may be cut; 0 and
            n_layers need not be named.

    Returns:
        One half-open range (first, last) per node, in ring order; together
        they tile [ends, n_layers - ends). Of equally even cuts, the one that
        gives earlier nodes more layers.

    Raises:
        CannotCut: Fewer layers or boundaries than nodes, or a model that may
            not be cut at its ends.
        ValueError: `nodes` or `ends` is out of range.
    """
    if nodes < 1 or ends < 0:
        raise ValueError(f"nodes {nodes} and ends {ends} are out of range")
    first, last = ends, n_layers - ends
    if nodes > last - first:
        raise CannotCut(
            f"{nodes} nodes cannot share {max(0, last - first)} layers",
            hint=f"the model has {n_layers} layers and the gateway keeps {ends} at each end; "
            "start fewer nodes",
        )
    cuts = sorted({cut for cut in boundaries if first < cut < last} | {first, last})
    for end in (first, last):
        if end not in (0, n_layers) and end not in boundaries:
            allowed = ", ".join(map(str, sorted(boundaries))) or "nowhere"
            raise CannotCut(
                f"the model cannot be cut before layer {end}",
                hint=f"choose other ends; cuts are allowed at {allowed}",
            )
    if nodes > len(cuts) - 1:
        raise CannotCut(
            f"{nodes} nodes cannot share {len(cuts) - 1} pieces that may not be cut further",
            hint="start fewer nodes",
        )
    return _most_even(cuts, nodes)


def _most_even(cuts: list[int], parts: int) -> tuple[tuple[int, int], ...]:
    """Choose parts - 1 of the inner `cuts` (ascending) with the least sum of squares."""
    n = len(cuts)
    # best[i]: cost and next cut for what remains from cuts[i], in p parts.
    best: list[tuple[int, int] | None] = [((cuts[-1] - cuts[i]) ** 2, n - 1) for i in range(n - 1)]
    best.append(None)
    chosen = [best]
    for _ in range(parts - 1):
        row: list[tuple[int, int] | None] = []
        for i in range(n):
            options = [
                ((cuts[j] - cuts[i]) ** 2 + rest[0], -j)
                for j in range(i + 1, n)
                if (rest := best[j]) is not None
            ]
            # Of equal costs the furthest cut: the earlier node takes more.
            option = min(options, default=None)
            row.append(None if option is None else (option[0], -option[1]))
        best = row
        chosen.append(best)
    ranges: list[tuple[int, int]] = []
    at = 0
    for row in reversed(chosen):
        step = row[at]
        assert step is not None, "more parts than pieces"
        ranges.append((cuts[at], cuts[step[1]]))
        at = step[1]
    return tuple(ranges)
