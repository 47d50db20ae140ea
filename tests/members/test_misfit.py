"""Which machines cannot host a stage."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.hand_node import a_join

from atoll import __version__
from atoll.members.misfit import GIB, misfit


@pytest.mark.parametrize("version", [__version__, ".".join([*__version__.split(".")[:2], "99"])])
def test_who_fits(version: str) -> None:
    join = a_join("", 1, memory_free_bytes=GIB, version=version)
    assert misfit(join, GIB) == ("", "")


@pytest.mark.parametrize(
    ("changes", "problem", "hint"),
    [
        ({"engine_build": "other-1"}, "its engine is other-1", "of that build"),
        ({"version": "99.0.0"}, "it runs Atoll 99.0.0", "same version"),
        ({"version": ""}, "it runs Atoll ", "same version"),
        ({"memory_free_bytes": GIB // 2}, "0.5 GiB of memory free, and 0.5 GiB more", "fewer"),
    ],
)
def test_who_does_not(changes: dict[str, Any], problem: str, hint: str) -> None:
    told = misfit(a_join("", 1, **({"memory_free_bytes": GIB} | changes)), GIB)
    assert problem in told[0]
    assert hint in told[1]


def test_who_only_lends_needs_no_engine_and_no_room_for_a_stage() -> None:
    join = a_join("", 1, memory_free_bytes=0, engine_build="", lends_bytes=1 << 30)
    assert misfit(join, GIB) == ("", "")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": "99.0.0"}, "it runs Atoll 99.0.0"),
        ({"lends_bytes": 5}, "it lends 5 bytes of memory"),
        ({"lends_bytes": 1 << 50}, "it lends 1125899906842624 bytes"),
    ],
)
def test_who_cannot_lend(changes: dict[str, Any], problem: str) -> None:
    told = misfit(a_join("", 1, **({"lends_bytes": 1 << 30} | changes)), GIB)
    assert problem in told[0]
