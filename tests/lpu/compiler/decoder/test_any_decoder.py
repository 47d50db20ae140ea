"""Decoders of any shape: what is covered has no conflict, and computes what it should."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_small import timing_of
from tests.support.reference_decoder import ReferenceDecoder, random_weights

from atoll.domain.errors import BadRequest
from atoll.forecast.shapes import ModelShape
from atoll.lpu.check.programs import check, check_routine
from atoll.lpu.compiler.chips.place import Wanted, place_decoder
from atoll.lpu.compiler.decoder.caches import indices
from atoll.lpu.compiler.decoder.decode import DecodeCompiler, split
from atoll.lpu.compiler.memory import Stored
from atoll.lpu.laying import Laying, Rotation
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.topology import build, shipped_systems
from atoll.lpu.words import Words

TIMING = timing_of()


def shape(
    hidden: int, heads: tuple[int, int], head_dim: int, ffn: int = 90, vocab: int = 50
) -> ModelShape:
    return ModelShape("Made", 1, hidden, heads[0], heads[1], head_dim, ffn, vocab)


@pytest.mark.parametrize(
    ("found", "chips", "context", "stored"),
    [
        # Rows of the identity and of a lane were read from one slice at once.
        (shape(320, (24, 12), 320), 3, 320, "f16"),
        (shape(420, (4, 4), 80), 1, 2, "f16"),
        (shape(644, (105, 15), 160), 5, 640, "int8"),
        # So many heads that the first were still on streams that the next round took.
        (shape(347, (384, 24), 32), 8, 320, "f16"),
        # More heads of keys in a vector than a pass has masks for.
        (shape(192, (112, 56), 16), 7, 2, "int8"),
        (shape(400, (126, 42), 16), 6, 2, "f16"),
        # Heads that share a key for longer than a vector needs from slice to slice.
        (shape(200, (71, 1), 64), 1, 400, "f16"),
        (shape(200, (256, 2), 16), 1, 4096, "int8"),
    ],
)
def test_no_conflicts(found: ModelShape, chips: int, context: int, stored: Stored) -> None:
    parts = split(found, chips, context, TIMING.lanes)
    compiled = DecodeCompiler(TIMING, parts, stored).compile()
    for name, routine in compiled.routines.items():
        last = TIMING.words - compiled.shared_words - compiled.words[name]
        assert check_routine(routine, TIMING, (0, last)) == []


@pytest.mark.parametrize(
    ("found", "half"),
    [(shape(100, (40, 2), 32), True), (shape(70, (28, 14), 16), False)],
)
def test_many_heads_give_what_numpy_gives(found: ModelShape, half: bool) -> None:
    topology = build(shipped_systems().find("GroqNode"))
    wanted = Wanted(shape=found, chips=1, context=9, stored="f16", width=1, half=half)
    placed = place_decoder(TIMING, topology, wanted)
    assert check(placed.program, TIMING, topology) == []
    layers, head = random_weights(found, seed=1)
    rotation = Rotation(found.head_dim, 10_000.0)
    laying = Laying(placed.compiled, rotation, lambda n: layers[n], lambda: head)

    def words(tensor: str) -> Words:
        origin = placed.origins[tensor]
        parts = [laying.words(p, origin.routine, origin.layer, 0) for p in origin.pieces]
        return np.concatenate(parts)

    simulator = Simulator(placed.program, TIMING, words)
    reference = ReferenceDecoder(found, layers, head, rotation, wanted.eps, half=half)
    hidden, logits = placed.compiled.hidden, placed.compiled.logits
    rng = np.random.default_rng(2)
    for position in range(3):
        token = rng.standard_normal(found.hidden).astype(np.float32)
        simulator.poke(0, hidden.side, hidden.slices, hidden.address, laying.hidden(token, 0))
        dims = placed.compiled.split.dims
        simulator.run(indices(position, positions=9, lanes=TIMING.lanes, dims=dims))
        where = (logits.side, logits.slices, logits.address, logits.count)
        due = reference.token(token)
        assert np.abs(laying.logits(simulator.peek(0, *where)) - due).max() < 0.01 * due.std()


def test_more_heads_of_a_key_than_accumulators() -> None:
    parts = split(shape(64, (512, 1), 16), 1, 8, TIMING.lanes)
    with pytest.raises(BadRequest, match="512 heads share a key"):
        DecodeCompiler(TIMING, parts, "f16")
