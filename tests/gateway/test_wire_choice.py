"""How rows travel: as asked, as all can, or as it pays."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest
from tests.gateway.test_ring_plan import MANIFEST
from tests.gateway.test_routing import plan
from tests.support.hand_node import a_join

from atoll.domain.control import Join
from atoll.domain.wire import ENCODINGS, F16_SCALED, I8_BLOCKS, row_bytes
from atoll.gateway.options import RingOptions
from atoll.gateway.wire_choice import choose_encoding, costs_of

OLD = a_join("", 1)
NEW = a_join("", 1, encodings=ENCODINGS)
QUICK_LINKS = plan(20.0, 5.0)
SLOW_LINK = msgspec.structs.replace(QUICK_LINKS, short_rows=True)
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


@pytest.mark.parametrize(
    ("wire", "nodes", "rows", "short"),
    [
        ("auto", [NEW, NEW], F16_SCALED, I8_BLOCKS),
        ("auto", [NEW, OLD], F16_SCALED, ""),
        ("f16", [NEW, NEW], F16_SCALED, ""),
        ("int8", [NEW, NEW], I8_BLOCKS, ""),
        ("int8", [NEW, OLD], F16_SCALED, ""),
    ],
)
def test_plans_are_made_by_the_rows_that_a_ring_may_send(
    wire: Wire, nodes: list[Join], rows: str, short: str
) -> None:
    found = costs_of(MANIFEST, range(9), RingOptions(2, wire=wire), nodes)
    assert found.row_bytes == row_bytes(rows, MANIFEST.n_embd)
    assert found.short_row_bytes == (row_bytes(short, MANIFEST.n_embd) if short else 0)
