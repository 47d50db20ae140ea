"""Runs of parts on groups: few, even, within memory."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from atoll.lpu.compiler.chips.stages import Run, assign

LLAMA_2_70B = [1485, 3594] * 80 + [1316]


def placed(runs: list[Run] | int) -> list[Run]:
    assert not isinstance(runs, int)
    return runs


def test_as_few_runs_as_fit_and_as_even_as_they_can_be() -> None:
    runs = placed(assign([3, 3, 3, 3, 3, 3, 3], 15, 7))
    assert runs == [Run(0, 0, 4, (0, 3, 6, 9)), Run(1, 4, 7, (0, 3, 6))]


def test_all_in_one_group() -> None:
    assert assign([1, 2, 3], 6, 1) == [Run(0, 0, 3, (0, 1, 3))]


def test_runs_share_groups_where_none_could_be_filled_otherwise() -> None:
    """Two layers do not fit a group, and there are not 80 groups: blocks of two layers do."""
    runs = placed(assign(LLAMA_2_70B, 7223, 72))
    assert [(run.group, run.first, run.end) for run in runs[:6]] == [
        (0, 0, 3),
        (1, 3, 4),
        (2, 4, 7),
        (1, 7, 8),
        (3, 8, 11),
        (4, 11, 12),
    ]
    assert runs[3].bases == (3594,)
    assert (len(runs), max(run.group for run in runs) + 1) == (80, 61)


def test_how_many_groups_would_do() -> None:
    assert assign(LLAMA_2_70B, 7223, 60) == 61
    assert assign([5, 5, 5], 5, 2) == 3


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(60, 100), st.integers(1, 30)
)
def test_parts_stay_in_order_and_within_memory(words: list[int], room: int, groups: int) -> None:
    runs = assign(words, room, groups)
    if isinstance(runs, int):
        assert runs > groups
        assert not isinstance(assign(words, room, runs), int)
        return
    assert [n for run in runs for n in range(run.first, run.end)] == list(range(len(words)))
    taken: dict[int, list[tuple[int, int]]] = {}
    for run in runs:
        assert 0 <= run.group < groups
        for n, base in zip(range(run.first, run.end), run.bases, strict=True):
            taken.setdefault(run.group, []).append((base, base + words[n]))
    for ranges in taken.values():
        ranges.sort()
        assert ranges[-1][1] <= room
        assert all(one[1] <= other[0] for one, other in pairwise(ranges))


def test_more_groups_than_are_needed_are_left_alone() -> None:
    assert assign(LLAMA_2_70B, 7223, 72) == assign(LLAMA_2_70B, 7223, 100)
