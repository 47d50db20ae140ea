"""Things by name: however they are spelt, and what is near to a name that is not there."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.names import ByName, words


@dataclass(frozen=True)
class Thing:
    name: str
    aliases: tuple[str, ...] = ()


THINGS = ByName(
    "thing",
    [Thing("NVIDIA RTX 4070", ("RTX 4070",)), Thing("NVIDIA RTX 4070 Ti", ("RTX 4070 Ti",))],
)


def test_spellings() -> None:
    assert words("NVIDIA  GeForce-RTX_4070 (Ti)") == "nvidia geforce rtx 4070 ti"
    assert THINGS.find("rtx-4070") is THINGS.find("NVIDIA RTX 4070")
    assert THINGS.get("4070") is None


def test_the_longest_name_in_a_text() -> None:
    found = THINGS.find_in("Ryzen 9 (Nvidia RTX 4070 Ti) (GPU)")
    assert found is not None
    assert found.name == "NVIDIA RTX 4070 Ti"
    assert THINGS.find_in("RTX 40701") is None


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(BadRequest) as caught:
        THINGS.find("RTX 4700 Ti")
    assert caught.value.problem == "no thing is called 'RTX 4700 Ti'"
    assert caught.value.hint == "the nearest name is 'NVIDIA RTX 4070 Ti'"
    with pytest.raises(BadRequest, match="there are none"):
        ByName("thing", []).find("x")


def test_later_ones_take_the_place_of_earlier_ones() -> None:
    mine = Thing("NVIDIA RTX 4070", ("card",))
    found = ByName("thing", [*THINGS, mine])
    assert found.find("nvidia rtx 4070") is mine
    assert len(list(found)) == 2
