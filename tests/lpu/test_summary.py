"""What a compiled decoder comes to."""

from __future__ import annotations

import pytest
from tests.support.lpu_small import SMALL, timing_of

from atoll.lpu.compiler.chips.place import Placed, Wanted, place_decoder
from atoll.lpu.compiler.chips.widths import layer_tiles
from atoll.lpu.sizes import topology_for
from atoll.lpu.summary import summarise


@pytest.fixture(scope="module")
def placed() -> Placed:
    wanted = Wanted(shape=SMALL, chips=8, context=40, stored="f16", width=4)
    return place_decoder(timing_of(800), topology_for(8), wanted)


def test_times_memory_and_energy(placed: Placed) -> None:
    found = summarise(placed)
    assert (found.chips_used, found.width, found.hand_overs) == (8, 4, 1)
    assert found.token_us == pytest.approx(found.token_cycles / 900)
    assert found.memory == max(placed.words_used) / 800
    assert 0.5 < found.memory <= 1
    assert found.watts == 8 * 300
    assert found.joules_per_token == pytest.approx(2400 * placed.token_s)
    assert any("300 W a chip" in note for note in found.notes)


def test_shares_are_of_each_part_alone(placed: Placed) -> None:
    attention, feed_forward, head = summarise(placed).parts
    assert (attention.times, head.times) == (SMALL.layers, 1)
    for part in (attention, feed_forward, head):
        assert 0 < part.multiply < 1
        assert 0 < part.alus < 1
        assert part.words == placed.compiled.words[part.name]
    # The head's logits stay where they are made.
    assert head.links == 0
    assert attention.links > 0
    # A word of a tile takes both planes of its side for a cycle; ones for the norm come besides.
    words = layer_tiles(placed.compiled.split, placed.timing.lanes)[1]
    loaded = feed_forward.load * 2 * feed_forward.cycles
    assert words <= loaded <= words + 100
