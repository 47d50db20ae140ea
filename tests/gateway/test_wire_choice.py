"""How rows travel: as asked, as all can, or as it pays."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest
from tests.gateway.test_routing import plan
from tests.support.hand_node import a_join

from atoll.domain.wire import ENCODINGS, F16_SCALED, I8_BLOCKS
from atoll.gateway.options import RingOptions
from atoll.gateway.wire_choice import choose_encoding

OLD = a_join("", 1)
NEW = a_join("", 1, encodings=ENCODINGS)
QUICK_LINKS = msgspec.structs.replace(plan(20.0, 5.0), chunk_ms=900.0, chunk_link_ms=900.0)
SLOW_LINK = msgspec.structs.replace(QUICK_LINKS, chunk_link_ms=900.001)
Wire = Literal["auto", "f16", "int8"]


@pytest.mark.parametrize(
    ("wire", "pays", "found"),
    [
        ("auto", False, F16_SCALED),
        ("auto", True, I8_BLOCKS),
        ("f16", True, F16_SCALED),
        ("int8", False, I8_BLOCKS),
    ],
)
def test_auto_takes_bytes_where_a_link_is_what_a_prompt_waits_for(
    wire: Wire, pays: bool, found: str
) -> None:
    foretold = SLOW_LINK if pays else QUICK_LINKS
    assert choose_encoding(RingOptions(2, wire=wire), [NEW, NEW], foretold) == found


@pytest.mark.parametrize(("wire", "found"), [("auto", F16_SCALED), ("int8", I8_BLOCKS)])
def test_a_ring_that_was_not_planned_takes_bytes_only_if_asked(wire: Wire, found: str) -> None:
    assert choose_encoding(RingOptions(2, wire=wire), [NEW, NEW], None) == found


@pytest.mark.parametrize("wire", ["auto", "int8"])
def test_one_node_that_does_not_know_bytes_is_enough(wire: Wire) -> None:
    assert choose_encoding(RingOptions(2, wire=wire), [NEW, OLD], SLOW_LINK) == F16_SCALED
