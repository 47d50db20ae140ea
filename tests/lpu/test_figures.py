"""Figures of machines: units, sources, and what is not published."""

from __future__ import annotations

import msgspec
import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.figures import Compute, Hertz, Rate, Seconds, Size, Sourced, decode, published


class Sample(Sourced, frozen=True, kw_only=True):
    clock: Hertz
    parts: dict[str, Rate] = msgspec.field(default_factory=dict)
    size: Size | None = None
    hop: Seconds | None = None
    peak: Compute | None = None


def test_quantities_become_plain_numbers() -> None:
    text = """clock = "900 MHz"\nparts = { link = "100 Gbit/s" }\nsize = "220 MiB"
    hop = "722 ns"\npeak = "750 TOPS"\nsource = "here" """
    found = decode(text, Sample, source="x.toml")
    assert found.clock == 900e6
    assert found.parts == {"link": 12.5e9}
    assert [found.size, found.peak] == pytest.approx([220 * 2**20, 750e12])
    assert found.hop == pytest.approx(722e-9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('clock = "900 MHz"', "source"),
        ('clock = "900 MHz"\nsource = " "', "without a source"),
        ('source = "here"', "clock"),
        ('clock = 900\nsource = "here"', "has no unit"),
        ('clock = "900"\nsource = "here"', "has no unit"),
        ('clock = "900 GB/s"\nsource = "here"', "no unit of frequency"),
        ('clock = "900 kHz"\nsource = "here"', "no machine has"),
        ('clock = "1 GHz"\nparts = { link = "5 GB" }\nsource = "here"', r"`\$.parts"),
        ('clock = "1 GHz"\nclok = "1 GHz"\nsource = "here"', "clok"),
        ("clock = ", "x.toml cannot be read"),
    ],
)
def test_figures_that_are_none_are_refused(text: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        decode(text, Sample, source="x.toml")


def test_what_is_not_published_is_said() -> None:
    assert published(0, "the first") == 0
    with pytest.raises(BadRequest, match="the power of TSP is not published"):
        published(None, "the power of TSP")
