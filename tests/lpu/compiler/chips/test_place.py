"""A whole decoder on many chips: where its parts are, what it takes, what comes out."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from tests.support.lpu_small import SMALL, timing_of
from tests.support.reference_decoder import ReferenceDecoder, random_weights

from atoll.domain.errors import BadRequest
from atoll.lpu.check.programs import check
from atoll.lpu.compiler.chips.layout import digest
from atoll.lpu.compiler.chips.place import DoesNotFit, Placed, Wanted, place_decoder
from atoll.lpu.compiler.decoder.caches import indices
from atoll.lpu.compiler.memory import Stored
from atoll.lpu.laying import Laying, Rotation
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.topology import build, shipped_systems
from atoll.lpu.words import Values, Words

CONTEXT = 40
RACK = build(shipped_systems().find("GroqRack"), nodes=2)


def place(words: int | None, width: int | None, stored: Stored | None, chips: int = 16) -> Placed:
    wanted = Wanted(shape=SMALL, chips=chips, context=CONTEXT, stored=stored, width=width)
    return place_decoder(timing_of(words), RACK, wanted)


def words_of(placed: Placed, laying: Laying) -> Callable[[str], Words]:
    def data(tensor: str) -> Words:
        origin = placed.origins[tensor]
        return np.concatenate(
            [
                laying.words(piece, origin.routine, origin.layer, origin.member)
                for piece in origin.pieces
            ]
        )

    return data


def answers(placed: Placed, tokens: list[Values]) -> list[Values]:
    """Logits after each of the tokens."""
    layers, head = random_weights(SMALL, seed=3)
    rotation = Rotation(SMALL.head_dim, 10_000.0)
    compiled = placed.compiled
    laying = Laying(compiled, rotation, lambda n: layers[n], lambda: head)
    simulator = Simulator(placed.program, placed.timing, words_of(placed, laying))
    first, last = placed.groups[placed.stages[0].group], placed.groups[placed.stages[-1].group]
    hidden, logits = compiled.hidden, compiled.logits
    found = []
    for position, token in enumerate(tokens):
        for member, chip in enumerate(first):
            simulator.poke(
                chip, hidden.side, hidden.slices, hidden.address, laying.hidden(token, member)
            )
        simulator.run(
            indices(
                position,
                positions=CONTEXT,
                lanes=placed.timing.lanes,
                dims=compiled.split.dims,
            )
        )
        parts = [
            simulator.peek(chip, logits.side, logits.slices, logits.address, logits.count)
            for chip in last
        ]
        found.append(np.concatenate([laying.logits(part) for part in parts])[: SMALL.vocab])
    return found


@pytest.fixture(scope="module")
def tokens() -> list[Values]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(SMALL.hidden).astype(np.float32) for _ in range(2)]


@pytest.mark.parametrize(("width", "groups"), [(1, 4), pytest.param(4, 2, marks=pytest.mark.long)])
def test_on_several_groups_the_same_bits_come_out(
    tokens: list[Values], width: int, groups: int
) -> None:
    one, several = place(None, width, "f16"), place(800, width, "f16")
    assert (len(one.groups), len(several.groups)) == (1, groups)
    assert check(several.program, several.timing, RACK) == []
    found = answers(several, tokens)
    for mine, alone in zip(found, answers(one, tokens), strict=True):
        assert np.array_equal(mine, alone)
    layers, head = random_weights(SMALL, seed=3)
    reference = ReferenceDecoder(SMALL, layers, head, Rotation(SMALL.head_dim, 1e4), 1e-5)
    for mine, token in zip(found, tokens, strict=True):
        expected = reference.token(token)
        assert np.abs(mine - expected).max() < 0.02 * np.abs(expected).max()


GOLDEN = """\
group 0 chips (0,): attention 0 at 0, feed-forward 0 at 125
group 1 chips (1,): attention 1 at 0, feed-forward 1 at 125
group 2 chips (2,): attention 2 at 0, feed-forward 2 at 125
group 3 chips (3,): attention 3 at 0, feed-forward 3 at 125, head at 527
"""


def test_which_part_is_on_which_chips() -> None:
    placed = place(800, 1, "f16")
    lines = []
    for run in placed.stages:
        parts = ", ".join(
            f"{part.routine}{f' {part.layer}' if part.layer >= 0 else ''} at {base}"
            for part, base in zip(placed.parts[run.first : run.end], run.bases, strict=True)
        )
        lines.append(f"group {run.group} chips {placed.groups[run.group]}: {parts}\n")
    assert "".join(lines) == GOLDEN
    assert max(placed.words_used) <= 800


def test_the_same_input_makes_the_same_program() -> None:
    one, other = place(800, 4, "f16"), place(800, 4, "f16")
    assert digest(one.program) == digest(other.program)
    assert digest(one.program) != digest(place(None, 4, "f16").program)


def test_figures_add_up() -> None:
    placed = place(800, 4, "f16")
    head = placed.compiled.routines["head"].cycles
    assert placed.cycles == SMALL.layers * placed.layer_cycles + head + sum(placed.hand_overs)
    assert placed.token_s == placed.cycles / 900e6
    assert placed.chips_used == 8
    assert placed.host_s == pytest.approx(20e-6 + 4 * (700 + 150) / 24e9)
    blocks = {(b.chip, b.side, b.slices, b.address) for b in placed.program.blocks}
    assert len(blocks) == len(placed.program.blocks)
    for block in placed.program.blocks:
        pieces = placed.origins[block.tensor].pieces
        assert sum(piece.words for piece in pieces) == block.words


def test_the_fastest_width_that_fits_is_taken() -> None:
    for words in (None, 800):
        found = place(words, None, "f16")
        each = [place(words, width, "f16") for width in (1, 2, 4)]
        assert found.cycles == min(placed.cycles for placed in each)


def test_weights_are_of_int8_where_halves_do_not_fit() -> None:
    assert place(800, 2, None, chips=4).compiled.stored == "f16"
    assert place(800, 2, None, chips=2).compiled.stored == "int8"


def test_what_does_not_fit() -> None:
    with pytest.raises(DoesNotFit, match="Small does not fit on 2 chips") as found:
        place(800, 1, "f16", chips=2)
    assert (found.value.chips, found.value.hint) == (4, "4 chips would do")
    assert place(800, 1, "f16", chips=4).chips_used == 4
    with pytest.raises(BadRequest, match="17 chips: GroqRack has 16"):
        place(None, 1, "f16", chips=17)
    with pytest.raises(BadRequest, match="4 heads of keys do not come apart on 3 of 8"):
        place(None, 3, "f16")


def test_models_that_are_not_covered() -> None:
    experts = msgspec.structs.replace(SMALL, experts=4, experts_used=2, expert_ffn=64)
    with pytest.raises(BadRequest, match="experts"):
        place_decoder(timing_of(), RACK, Wanted(shape=experts, chips=8, context=CONTEXT))
