"""A layer computes what it should, and what the published one has runs without conflicts."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_encoders import lay, model, results

from atoll.domain.errors import BadRequest
from atoll.lpu.check.programs import check
from atoll.lpu.compiler.encoder.layer import Encoder, Scales, compile_encoder
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Program, Step
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())
ONES = Scales(**dict.fromkeys(Scales.__dataclass_fields__, 1 / 64))


def program(encoder: Encoder, layers: int) -> Program:
    """Layers of one chip, one behind the other."""
    cycles, words = encoder.routine.cycles, encoder.room.local_words
    steps = tuple(Step(0, (0,), n * cycles, n * words, n) for n in range(layers))
    return Program(1, (encoder.routine,), steps)


@pytest.mark.parametrize(
    "sizes",
    [
        (128, 2, 400, 32),
        (640, 4, 700, 40),
        (256, 4, 640, 300),
        (192, 3, 320, 64),
    ],
)
def test_a_layer_is_right(sizes: tuple[int, int, int, int]) -> None:
    shape = Shape(TIMING, *sizes)
    layer = model(shape, 1)
    encoder = compile_encoder(shape, layer.layer.scales)
    rng = np.random.default_rng(2)
    residual = rng.normal(size=(shape.rows, shape.hidden)).astype(np.float16)
    x = np.clip(np.rint(residual / layer.layer.scales.x), -128, 127)
    run = program(encoder, 1)
    assert check(run, TIMING) == []
    simulator = Simulator(run, TIMING)
    lay(simulator, encoder.room, layer, x, residual)
    simulator.run()
    y, y_f16 = results(simulator, encoder)
    want, want_f16 = layer.run(x, residual)
    # An int8 falls on the other side of a half now and then, which moves the sums it goes into
    # by a step; rows in which none does are right to the last digits of f16.
    off = np.abs(y_f16 - want_f16)
    assert off.max() < 0.1
    assert off.mean() < 0.006
    assert off.mean(axis=1).min() < 0.0015
    assert (y == want).mean() > 0.85
    assert np.abs(y - want).max() <= 2


def test_layers_follow_each_other() -> None:
    shape = Shape(TIMING, 128, 2, 320, 32)
    layers = [model(shape, n) for n in range(2)]
    encoder = compile_encoder(shape, layers[0].layer.scales, layers=2)
    residual = np.random.default_rng(3).normal(size=(shape.rows, shape.hidden)).astype(np.float16)
    x = np.clip(np.rint(residual / layers[0].layer.scales.x), -128, 127)
    run = program(encoder, 2)
    assert check(run, TIMING) == []
    simulator = Simulator(run, TIMING)
    for n, layer in enumerate(layers):
        lay(simulator, encoder.room, layer, x, residual, layer=n)
    simulator.run()
    y, _ = results(simulator, encoder)
    want, want_f16 = layers[0].run(x, residual)
    want, _ = layers[1].run(want, want_f16.astype(np.float16))
    assert np.abs(y - want).mean() < 0.5
    assert np.abs(y - want).max() <= 4


@pytest.mark.long
def test_bert_large_is_free_of_conflicts() -> None:
    """Six layers are a chip's part of BERT-Large on four."""
    encoder = compile_encoder(Shape(TIMING), ONES, layers=6)
    assert check(program(encoder, 6), TIMING) == []
    assert encoder.routine.cycles < 40_000
    # All products of a layer on full planes: what no schedule goes below.
    assert sum(span.plane_cycles for span in encoder.spans.values()) / 4 > 12_000


@pytest.mark.parametrize("sizes", [(512, 8, 2048, 124), (640, 8, 1500, 120), (640, 8, 3000, 100)])
def test_the_last_rows_of_a_product_lie_apart_from_its_sums(
    sizes: tuple[int, int, int, int],
) -> None:
    """So many rows that the first sums are written before the last of them are read."""
    assert check(program(compile_encoder(Shape(TIMING, *sizes), ONES), 1), TIMING) == []


def test_layers_that_do_not_fit() -> None:
    with pytest.raises(BadRequest, match="words are missing"):
        compile_encoder(Shape(TIMING), ONES, layers=12)
