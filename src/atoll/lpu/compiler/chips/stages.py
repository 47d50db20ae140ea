"""Which parts of a model lie on which group of chips.

A token goes through the parts in order, and each time that the next part lies on another group
the hidden vector goes there. So parts that follow each other are kept together: as few runs of
them as memory allows, of about as many words. Where that takes fewer groups, several runs share
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

PATTERN_MAX = 12
"""Longest run, in parts, of the patterns that are tried for runs that share groups."""


@dataclass(frozen=True, slots=True)
class Run:
    """Parts `first` to `end - 1` on a group; `bases` are their addresses there."""

    group: int
    first: int
    end: int
    bases: tuple[int, ...]


def assign(words: Sequence[int], room: int, groups: int) -> list[Run] | int:
    """Runs of parts on groups, or how many groups would do if there are too few.

    Args:
        words: Of a slice, that each part takes; none more than `room`.
        room: Words of a slice that parts may take on a group.
        groups: Groups at most.
    """
    least = _even(words, room)
    found = [(least, list(range(len(least))))]
    longest = min(PATTERN_MAX, max(end - first for first, end in least))
    for one in range(1, longest + 1):
        for other in range(1, longest + 1):
            cuts = _pattern(words, room, (one, other))
            found.append((cuts, _pack([sum(words[a:b]) for a, b in cuts], room)))
    fitting = [(cuts, on) for cuts, on in found if max(on) < groups]
    if not fitting:
        return min(max(on) + 1 for _, on in found)
    return _based(words, *min(fitting, key=lambda made: (len(made[0]), max(made[1]))))


def _even(words: Sequence[int], room: int) -> list[tuple[int, int]]:
    """As few runs as there can be, the largest as small as it can be then."""
    count = len(_filled(words, room))
    low, high = max(words), room
    while low < high:
        middle = (low + high) // 2
        if len(_filled(words, middle)) <= count:
            high = middle
        else:
            low = middle + 1
    return _filled(words, low)


def _filled(words: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Runs that each take what fits."""
    cuts, first, held = [], 0, 0
    for n, each in enumerate(words):
        if held + each > room:
            cuts.append((first, n))
            first, held = n, 0
        held += each
    return [*cuts, (first, len(words))]


def _pattern(words: Sequence[int], room: int, lengths: tuple[int, int]) -> list[tuple[int, int]]:
    """Runs of two lengths by turns, or of as many parts as fit; a last one joins that before."""
    cuts: list[tuple[int, int]] = []
    first = 0
    while first < len(words):
        end, held = first, 0
        while (
            end < len(words) and end - first < lengths[len(cuts) % 2] and held + words[end] <= room
        ):
            held += words[end]
            end += 1
        cuts.append((first, end))
        first = end
    if len(cuts) > 1 and sum(words[cuts[-2][0] :]) <= room:
        cuts[-2:] = [(cuts[-2][0], len(words))]
    return cuts


def _pack(sizes: Sequence[int], room: int) -> list[int]:
    """A group for each run: the one begun last that has room, so that ways stay short."""
    held: list[int] = []
    on = []
    for size in sizes:
        fits = [g for g, has in enumerate(held) if has + size <= room]
        if not fits:
            held.append(0)
            fits = [len(held) - 1]
        held[fits[-1]] += size
        on.append(fits[-1])
    return on


def _based(words: Sequence[int], cuts: Sequence[tuple[int, int]], on: Sequence[int]) -> list[Run]:
    held = [0] * (max(on) + 1)
    runs: list[Run] = []
    for group, (first, end) in zip(on, cuts, strict=True):
        bases = list(accumulate(words[first:end], initial=held[group]))
        held[group] = bases.pop()
        if runs and runs[-1].group == group:
            before = runs.pop()
            runs.append(Run(group, before.first, end, (*before.bases, *bases)))
        else:
            runs.append(Run(group, first, end, tuple(bases)))
    return runs
