"""Tours against all there are."""

from __future__ import annotations

import itertools
import random

import pytest

from atoll.plan.order import all_tours, insertion, short_tour, tour_length


def matrix_of(seed: int, n: int) -> list[list[float]]:
    rng = random.Random(seed)
    return [[0.0 if a == b else rng.uniform(1, 9) for b in range(n + 1)] for a in range(n + 1)]


@pytest.mark.parametrize("seed", range(5))
def test_the_shortest_tour_of_every_subset(seed: int) -> None:
    matrix = matrix_of(seed, 5)
    tours = all_tours(matrix)
    assert len(tours) == 32
    for subset in range(1, 32):
        places = [i + 1 for i in range(5) if subset >> i & 1]
        best = min(tour_length(matrix, order) for order in itertools.permutations(places))
        length, tour = tours[subset]
        assert sorted(tour) == places
        assert length == pytest.approx(best)
        assert tour_length(matrix, tour) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_a_short_tour_is_near_the_shortest(seed: int) -> None:
    matrix = matrix_of(seed, 8)
    tour = short_tour(matrix, range(1, 9))
    assert sorted(tour) == list(range(1, 9))
    assert tour_length(matrix, tour) <= 1.3 * all_tours(matrix)[255][0]


def test_where_one_more_costs_least() -> None:
    matrix = matrix_of(1, 4)
    added, at = insertion(matrix, [1, 2, 3], 4)
    lengths = [
        tour_length(matrix, [*[1, 2, 3][:i], 4, *[1, 2, 3][i:]]) - tour_length(matrix, [1, 2, 3])
        for i in range(4)
    ]
    assert added == pytest.approx(min(lengths))
    assert lengths[at] == pytest.approx(added)
