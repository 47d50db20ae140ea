"""A decoder's token on a group of chips, against the same in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.lpu_small import timing_of
from tests.support.reference_decoder import ReferenceDecoder, random_weights

from atoll.domain.errors import BadRequest
from atoll.forecast.shapes import Latent, ModelShape
from atoll.lpu.check.programs import check_routine
from atoll.lpu.compiler.decoder.caches import indices
from atoll.lpu.compiler.decoder.decode import CONTEXT_MAX, Compiled, DecodeCompiler, split
from atoll.lpu.compiler.memory import Stored
from atoll.lpu.laying import Laying, Rotation
from atoll.lpu.program import Block, Program, Routine, Step
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.wording import described

LANES = 320
GOLDEN = Path(__file__).parent / "golden" / "attention.txt"


def shape_of(**other: Any) -> ModelShape:
    fields: dict[str, Any] = {
        "name": "small",
        "layers": 2,
        "hidden": 400,
        "heads": 6,
        "kv_heads": 2,
        "head_dim": 64,
        "ffn": 700,
        "vocab": 500,
    }
    return ModelShape(**(fields | other))


class OneGroup:
    """All layers of a decoder on one group of chips, in its memory and run."""

    def __init__(self, shape: ModelShape, compiled: Compiled, seed: int = 0) -> None:
        self.shape, self.compiled = shape, compiled
        self.layers, self.head = random_weights(shape, seed)
        self.rotation = Rotation(shape.head_dim, 10_000.0)
        self.laying = Laying(compiled, self.rotation, lambda n: self.layers[n], lambda: self.head)
        self.chips = range(compiled.split.chips)
        self._blocks: list[Block] = []
        self._origins: dict[str, tuple[Any, ...]] = {}
        names = list(compiled.routines)
        steps: list[Step] = []
        at = base = 0
        self._lay("", 0, 0)
        parts = [(n, layer) for layer in range(shape.layers) for n in names[:2]]
        for name, layer in [*parts, ("head", 0)]:
            steps.append(Step(names.index(name), tuple(self.chips), at, base))
            self._lay(name, layer, base)
            at += compiled.routines[name].cycles
            base += compiled.words[name]
        routines = tuple(compiled.routines.values())
        self.program = Program(len(self.chips), routines, tuple(steps), tuple(self._blocks))
        self.simulator = Simulator(
            self.program,
            timing_of(),
            lambda key: self.laying.words(*self._origins[key]),
        )

    def _lay(self, name: str, layer: int, base: int) -> None:
        for piece in self.compiled.pieces[name]:
            for chip in self.chips:
                key = str(len(self._blocks))
                self._origins[key] = (piece, name, layer, chip)
                address = piece.address + (base if piece.local else 0)
                self._blocks.append(
                    Block(chip, piece.side, piece.slices, address, piece.words, key)
                )

    def token(self, hidden: np.ndarray, position: int) -> np.ndarray:
        """Logits after a position's hidden vector."""
        kept, logits = self.compiled.hidden, self.compiled.logits
        for chip in self.chips:
            words = self.laying.hidden(hidden, chip)
            self.simulator.poke(chip, kept.side, kept.slices, kept.address, words)
        parts = self.compiled.split
        self.simulator.run(indices(position, positions=parts.context, lanes=LANES, dims=parts.dims))
        found = [
            self.laying.logits(
                self.simulator.peek(chip, logits.side, logits.slices, logits.address, logits.count)
            )
            for chip in self.chips
        ]
        return np.concatenate(found)[: self.shape.vocab]


def compiled_of(shape: ModelShape, chips: int, stored: Stored, **more: Any) -> Compiled:
    parts = split(shape, chips, more.pop("context", 350), LANES, **more)
    return DecodeCompiler(timing_of(), parts, stored).compile()


@pytest.mark.parametrize(
    ("chips", "stored", "half", "shape"),
    [
        (1, "f16", False, shape_of()),
        (1, "int8", True, shape_of()),
        (2, "f16", True, shape_of()),
        pytest.param(
            *(2, "int8", False, shape_of(layers=1, hidden=1000, vocab=501)), marks=pytest.mark.long
        ),
        pytest.param(
            *(3, "f16", False, shape_of(layers=1, heads=3, kv_heads=3, hidden=1300, ffn=1001)),
            marks=pytest.mark.long,
        ),
        # Heads of keys that fill the lanes of two vectors, and a third in part.
        (1, "f16", False, shape_of(layers=1, heads=11, kv_heads=11, head_dim=64)),
        pytest.param(
            8,
            "f16",
            False,
            shape_of(layers=1, heads=8, kv_heads=8, head_dim=16, hidden=3000),
            marks=pytest.mark.long,
        ),
    ],
    ids=["halves", "bytes", "two chips", "widths", "three chips", "lane groups", "a node"],
)
def test_logits_are_the_references(
    chips: int, stored: Stored, half: bool, shape: ModelShape
) -> None:
    compiled = compiled_of(shape, chips, stored, half=half)
    group = OneGroup(shape, compiled)
    reference = ReferenceDecoder(shape, group.layers, group.head, group.rotation, 1e-5, half)
    rng = np.random.default_rng(1)
    # Weights of bytes are rounded to 127 steps of the largest of each column.
    far = 0.02 if stored == "f16" else 0.2
    for position in range(2):
        hidden = rng.standard_normal(shape.hidden).astype(np.float32)
        wanted = reference.token(hidden)
        found = group.token(hidden, position)
        assert np.abs(found - wanted).max() < far * wanted.std(), position


@pytest.mark.long
def test_positions_beyond_a_block_of_the_caches() -> None:
    """Positions 0 to 321 of one layer: the second block of keys and values is begun."""
    shape = shape_of(layers=1, hidden=64, heads=2, kv_heads=1, head_dim=16, ffn=64, vocab=40)
    compiled = compiled_of(shape, 1, "f16", context=330)
    group = OneGroup(shape, compiled)
    reference = ReferenceDecoder(shape, group.layers, group.head, group.rotation, 1e-5)
    rng = np.random.default_rng(2)
    for position in range(322):
        hidden = rng.standard_normal(shape.hidden).astype(np.float32)
        wanted = reference.token(hidden)
        found = group.token(hidden, position)
        assert np.abs(found - wanted).max() < 0.02 * wanted.std(), position


@pytest.mark.parametrize("stored", ["f16", "int8"])
@pytest.mark.parametrize("chips", [1, 4])
def test_nothing_is_used_by_two(chips: int, stored: Stored) -> None:
    shape = shape_of(hidden=2000, heads=16, kv_heads=8, head_dim=128, ffn=3000)
    compiled = compiled_of(shape, chips, stored, context=1000)
    for routine in compiled.routines.values():
        assert check_routine(routine, timing_of()) == []


def test_results_come_one_after_the_other() -> None:
    compiled = compiled_of(shape_of(), 1, "f16")
    for name, marks in compiled.marks.items():
        ends = [cycle for _, cycle in marks]
        assert ends == sorted(ends)
        assert 0 < ends[-1] <= compiled.routines[name].cycles


def test_a_small_attention_is_scheduled_as_before() -> None:
    """The schedule in words: whoever changes a pass sees what became of it."""
    shape = shape_of(layers=1, hidden=64, heads=2, kv_heads=1, head_dim=16, ffn=64, vocab=40)
    routine: Routine = compiled_of(shape, 1, "f16", context=20).routines["attention"]
    text = "".join(f"{described(i)}\n" for i in routine.chips[0])
    assert text == GOLDEN.read_text("utf-8")


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"experts": 4, "experts_used": 1, "expert_ffn": 10}, "experts"),
        ({"latent": Latent(8, 8, 8, 8, 8)}, "latent"),
        ({"window": 100}, "windows"),
        ({"gated": False}, "gate"),
        ({"head_dim": 40}, "do not tile"),
        ({"head_dim": 640}, "do not tile"),
    ],
)
def test_models_that_are_not_covered(other: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        split(shape_of(**other), 1, 100, LANES)


def test_splits_that_do_not_come_out() -> None:
    with pytest.raises(BadRequest, match="2 heads of keys do not come apart on 3 chips"):
        split(shape_of(), 3, 100, LANES)
    for context in (0, CONTEXT_MAX + 1):
        with pytest.raises(BadRequest, match="context"):
            split(shape_of(), 1, context, LANES)


def test_heads_lie_in_the_lanes_of_as_few_vectors_as_hold_them() -> None:
    parts = split(shape_of(heads=14, kv_heads=7), 1, 100, LANES)
    assert [(h.slots, h.rows, h.dim) for h in parts.heads] == [(5, 2, 64), (2, 2, 64)]
    assert parts.dims == (320, 128)
    assert (split(shape_of(), 2, 100, LANES).ffn, parts.ffn) == (350, 700)
