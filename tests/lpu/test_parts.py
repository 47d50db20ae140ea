"""Links of the parts: what a vector takes on the wire."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.figures import Rate
from atoll.lpu.parts import Links


def test_a_vector_on_a_link() -> None:
    links = Links(
        count=16, lanes=4, lane_rate=Rate(25e9 / 8), vector_bytes=320, wire_bytes=328, source="x"
    )
    assert links.bytes_s == 12.5e9
    assert links.vector_s == pytest.approx(26.24e-9)
    assert links.efficiency == pytest.approx(0.975, abs=1e-3)


def test_a_vector_whose_form_is_not_published() -> None:
    links = Links(count=96, lanes=1, lane_rate=Rate(14e9), source="x")
    with pytest.raises(BadRequest, match="not published"):
        _ = links.vector_s
    with pytest.raises(BadRequest, match="not published"):
        _ = links.efficiency
