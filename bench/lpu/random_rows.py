"""Random products of many rows and encoder layers."""

from __future__ import annotations

import random

from atoll.lpu.compiler.encoder.layer import Scales, compile_encoder
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.compiler.encoder.stack import compile_stack
from atoll.lpu.compiler.rows.dense import Epilogue, compile_dense
from atoll.lpu.program import Number, Program, Routine, Step
from atoll.lpu.timing import Timing

SCALES = Scales(**dict.fromkeys(Scales.__dataclass_fields__, 1 / 64))


def random_product(seed: int, timing: Timing) -> Program:
    """Of all sizes, and what becomes of its sums.

    Raises:
        BadRequest: It does not fit.
    """
    draw = random.Random(seed)
    rows = draw.choice([draw.randint(1, 40), draw.randint(1, 600), 256])
    depth = draw.choice([draw.randint(1, 2000), 320 * draw.randint(1, 6)])
    width = draw.choice([draw.randint(1, 2000), 320 * draw.randint(1, 6)])
    number: Number = draw.choice(["int8", "f16"])
    epilogue = Epilogue(
        draw.choice(["f32", "f16", "int8"]),
        scale=draw.choice([1.0, 0.25]),
        bias=draw.random() < 0.5,
        gelu=draw.random() < 0.3,
        residual=draw.random() < 0.3,
    )
    return alone(compile_dense(timing, (rows, depth, width), number, epilogue).routine)


def random_encoder(seed: int, timing: Timing) -> Program:
    """A layer, of sizes that mostly can be tiled.

    Raises:
        BadRequest: It cannot, or does not fit.
    """
    draw = random.Random(seed)
    head = draw.choice([16, 32, 48, 64, 80, draw.randint(1, 100)])
    heads = draw.choice([1, 2, 4, 6, 8, 12, 16])
    inner = draw.choice([head * heads * 4, draw.randint(1, 2000)])
    rows = 2 * draw.randint(1, 100)
    shape = Shape(timing, head * heads, heads, inner, rows)
    return alone(compile_encoder(shape, SCALES).routine)


def bert_large(timing: Timing) -> Program:
    """BERT-Large of 384 positions on four chips."""
    return compile_stack(Shape(timing), SCALES).program


def alone(routine: Routine) -> Program:
    """A routine of one chip, run once."""
    return Program(1, (routine,), (Step(0, (0,), 0),))
