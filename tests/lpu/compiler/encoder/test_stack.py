"""Layers on several chips, against NumPy; and BERT-Large on four."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.lpu_encoders import model, results, words_of

from atoll.domain.errors import BadRequest
from atoll.lpu.check.programs import check
from atoll.lpu.compiler.encoder.layer import Scales
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.compiler.encoder.stack import Stack, compile_stack
from atoll.lpu.compiler.rows.words import Words
from atoll.lpu.machine import shipped_chips
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.timing import Timing, shipped_assumed
from atoll.lpu.topology import build, shipped_systems

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())
ONES = Scales(**dict.fromkeys(Scales.__dataclass_fields__, 1 / 64))
NODE = build(shipped_systems().find("GroqNode"))
PUBLISHED_S = 1225e-6


def test_layers_on_three_chips() -> None:
    shape = Shape(TIMING, 128, 2, 320, 32)
    layers = [model(shape, n) for n in range(3)]
    stack = compile_stack(shape, layers[0].layer.scales, layers=3, chips=3)
    assert check(stack.program, TIMING, NODE) == []
    residual = np.random.default_rng(3).normal(size=(shape.rows, shape.hidden)).astype(np.float16)
    x = np.clip(np.rint(residual / layers[0].layer.scales.x), -128, 127)
    counts = {block.tensor: block.words for block in stack.program.blocks}

    def data(name: str) -> Words:
        owner, what, part = name.split("/")
        number = int(owner.split()[1])
        parts = tuple(int(n) for n in part.split(".") if n)
        return words_of(what, parts, counts[name], layers[number], (x, residual))

    simulator = Simulator(stack.program, TIMING, data)
    simulator.run()
    y, y_f16 = results(simulator, stack.encoder, chip=2)
    want: tuple[np.ndarray, np.ndarray] = (x, residual)
    for layer in layers:
        want = layer.run(*want)
    assert np.abs(y - want[0]).mean() < 0.6
    assert np.abs(y_f16 - want[1]).mean() < 0.02


def bert_large() -> Stack:
    """24 layers on four chips."""
    return compile_stack(Shape(TIMING), ONES)


@pytest.mark.long
def test_bert_large_on_four_chips() -> None:
    stack = bert_large()
    assert check(stack.program, TIMING, NODE) == []
    # Less than what is published, with PCIe, and more than twice the bound of the products.
    assert stack.total_s < PUBLISHED_S
    bound = 24 * 12 * 384 * 1024 * 1024 / TIMING.chip.macs_cycle("int8") / TIMING.chip.hertz
    assert stack.chip_s > 2 * bound
    assert stack.host_s > 20e-6


def test_what_does_not_divide() -> None:
    with pytest.raises(BadRequest, match="24 layers"):
        compile_stack(Shape(TIMING), ONES, chips=5)
    with pytest.raises(BadRequest, match="another scale"):
        compile_stack(Shape(TIMING), replace(ONES, y=1.0))
    with pytest.raises(BadRequest, match="words are missing"):
        compile_stack(Shape(TIMING), ONES, chips=2)
