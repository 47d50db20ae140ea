"""Whether machines compute the bits that were computed before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from atoll.domain.bits import Bits
from atoll.gateway.numeric_classes import NumericClasses


def stage(first: int, last: int, name: str) -> Any:
    return SimpleNamespace(first=first, last=last, name=name)


def member(digest: str | None) -> Any:
    bits = Bits(digest, together=True) if digest is not None else None
    return SimpleNamespace(ready=SimpleNamespace(bits=bits))


def test_who_is_first_with_a_part_sets_its_class() -> None:
    classes = NumericClasses()
    assert classes.problem([stage(1, 3, "a"), stage(3, 5, "b")], [member("x"), member("y")]) == ""
    assert classes.problem([stage(1, 3, "c"), stage(3, 5, "b")], [member("x"), member("y")]) == ""


def test_a_machine_with_other_bits_is_named() -> None:
    classes = NumericClasses()
    classes.problem([stage(1, 3, "a")], [member("x")])
    said = "c computes other bits for layers 1 to 2 than a"
    assert classes.problem([stage(1, 3, "c")], [member("z")]) == said
    # The first one is back.
    assert classes.problem([stage(1, 3, "a")], [member("x")]) == ""


def test_other_cuts_and_silent_nodes_cannot_be_compared() -> None:
    classes = NumericClasses()
    classes.problem([stage(1, 3, "a")], [member("x")])
    assert classes.problem([stage(1, 4, "c")], [member("z")]) == ""
    assert classes.problem([stage(1, 3, "d")], [member(None)]) == ""
    not_ready: Any = SimpleNamespace(ready=None)
    assert classes.problem([stage(1, 3, "e")], [not_ready]) == ""
