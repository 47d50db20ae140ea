"""In which order a lap visits nodes: the shortest way from the gateway through them and back.

Exact by Held and Karp's dynamic programme (J. SIAM 10(1), 1962) up to
`EXACT_MAX` nodes; beyond that by insertion and Or's moves of short runs
(Or, 1976), which is bounded in steps and not in quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

EXACT_MAX = 12
RUN_MAX = 3
"""Longest run of nodes that is moved as one."""
ROUNDS_MAX = 30

Matrix = Sequence[Sequence[float]]


def all_tours(matrix: Matrix) -> list[tuple[float, tuple[int, ...]]]:
    """The shortest tour through each subset of places 1.., by the subset's bits.

    Args:
        matrix: Seconds from place to place; place 0 is the gateway.

    Returns:
        For each subset, bit i for place i + 1, its length and order; of the empty
        one nothing.
    """
    n = len(matrix) - 1
    size = 1 << n
    infinity = float("inf")
    # cost[s][j]: least way from the gateway through subset s that ends at place j + 1.
    cost = [[infinity] * n for _ in range(size)]
    came = [[-1] * n for _ in range(size)]
    for j in range(n):
        cost[1 << j][j] = matrix[0][j + 1]
    for subset in range(1, size):
        row = cost[subset]
        for j in range(n):
            if row[j] == infinity:
                continue
            onward = matrix[j + 1]
            for k in range(n):
                bit = 1 << k
                if subset & bit:
                    continue
                found = row[j] + onward[k + 1]
                if found < cost[subset | bit][k]:
                    cost[subset | bit][k] = found
                    came[subset | bit][k] = j
    tours: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for subset in range(1, size):
        ends = [(cost[subset][j] + matrix[j + 1][0], j) for j in range(n) if subset >> j & 1]
        length, last = min(ends)
        tours.append((length, _path(came, subset, last)))
    return tours


def _path(came: list[list[int]], subset: int, last: int) -> tuple[int, ...]:
    path = []
    while last != -1:
        path.append(last + 1)
        subset, last = subset & ~(1 << last), came[subset][last]
    return tuple(reversed(path))


def tour_length(matrix: Matrix, tour: Sequence[int]) -> float:
    """Seconds of a lap's links."""
    places = [0, *tour, 0]
    return sum(matrix[a][b] for a, b in pairwise(places))


def insertion(matrix: Matrix, tour: Sequence[int], place: int) -> tuple[float, int]:
    """Where a further place costs least: the seconds it adds, and its index in the tour."""
    ends = [0, *tour, 0]
    return min(
        (matrix[a][place] + matrix[place][b] - matrix[a][b], i)
        for i, (a, b) in enumerate(pairwise(ends))
    )


def short_tour(matrix: Matrix, places: Sequence[int]) -> tuple[int, ...]:
    """A short tour through these places, not surely the shortest."""
    tour: list[int] = []
    for place in places:
        tour.insert(insertion(matrix, tour, place)[1], place)
    for _ in range(ROUNDS_MAX):
        if not _move_a_run(matrix, tour):
            break
    return tuple(tour)


def _move_a_run(matrix: Matrix, tour: list[int]) -> bool:
    """Move runs of nodes to where they cost less; whether anything was gained."""
    gained = False
    for length in range(1, min(RUN_MAX, len(tour) - 1) + 1):
        for start in range(len(tour) - length + 1):
            run = tour[start : start + length]
            rest = tour[:start] + tour[start + length :]
            ends = [0, *rest, 0]
            inner_less = matrix[ends[start]][run[0]] + matrix[run[-1]][ends[start + 1]]
            saved = inner_less - matrix[ends[start]][ends[start + 1]]
            added, at = min(
                (matrix[a][run[0]] + matrix[run[-1]][b] - matrix[a][b], i)
                for i, (a, b) in enumerate(pairwise(ends))
            )
            if added < saved - 1e-12:
                tour[:] = rest[:at] + run + rest[at:]
                gained = True
    return gained
