"""Random decoders, of sizes that mostly fit on the chips that share them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from atoll.forecast.shapes import ModelShape
from atoll.lpu.check.conflicts import Conflict
from atoll.lpu.check.programs import check_routine
from atoll.lpu.compiler.decoder.decode import Compiled, DecodeCompiler, split
from atoll.lpu.compiler.memory import Stored
from atoll.lpu.timing import Timing


@dataclass(frozen=True)
class RandomDecoder:
    """A decoder, and how it is to be compiled."""

    shape: ModelShape
    chips: int
    context: int
    half: bool
    stored: Stored

    def compiled(self, timing: Timing) -> Compiled:
        """Its routines.

        Raises:
            BadRequest: It does not fit.
        """
        parts = split(self.shape, self.chips, self.context, timing.lanes, half=self.half)
        return DecodeCompiler(timing, parts, self.stored).compile()


def random_decoder(seed: int) -> RandomDecoder:
    """Of all sizes of heads and groups, often such that vectors are full or nearly so."""
    draw = random.Random(seed)
    large = draw.random() < 0.1
    top = 9000 if large else 1500
    hidden = draw.choice(
        [draw.randint(64, top), 320 * draw.randint(1, top // 320), draw.randint(64, 700)]
    )
    chips = draw.choice([1, 1, 2, 3, 4, 5, 6, 7, 8])
    kv_heads = chips * draw.randint(1, draw.choice([4, 4, 20]))
    shape = ModelShape(
        name=f"Random {seed}",
        layers=1,
        hidden=hidden,
        heads=kv_heads * draw.choice([1, 1, 2, 3, 4, 7, 8, 16, 40]),
        kv_heads=kv_heads,
        head_dim=16 * draw.randint(1, draw.choice([4, 8, 20])),
        ffn=draw.choice([draw.randint(1, 2 * top), 320 * draw.randint(1, 2 * top // 320)]),
        vocab=draw.randint(1, draw.choice([700, 3000])),
    )
    context = draw.choice([1, draw.randint(1, 320), 320, 321, draw.randint(1, 1300), 4096])
    stored: Stored = draw.choice(["f16", "int8"])
    return RandomDecoder(shape, chips, context, draw.random() < 0.5, stored)


def decoder_conflicts(compiled: Compiled, timing: Timing) -> list[Conflict]:
    """Of all its routines, wherever a layer's part lies."""
    found = []
    for name, routine in compiled.routines.items():
        last = timing.words - compiled.shared_words - compiled.words[name]
        found += check_routine(routine, timing, (0, max(last, 0)))
    return found
