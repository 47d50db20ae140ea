"""Whole models against published latencies of TSP systems; nothing in the schedules is fitted.

- `llama2_70b_576_us_per_layer`: a token of Llama 2 70B on 576 chips by its 80 layers, hand-overs
  and head included; published systems show 36 to 49 (Llama 2 70B: 41.7 by the vendor's text, 48.6
  by an LLMPerf run). `compile_s_70b`: seconds to compile it.
- `bert_large_us`: BERT-Large of 384 positions on four chips, the ways from and to the host
  included; `bert_large_chip_us` without them; `error_bert_large` against 1,225 us (Abts et al.,
  ISCA 2022, figure 17). The paper says neither how many positions nor which numbers.
"""

from __future__ import annotations

import time
from typing import Any

from atoll.forecast.models import shipped_models
from atoll.lpu.compiler.chips.place import Placed, Wanted, place_decoder
from atoll.lpu.compiler.encoder.layer import Scales
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.compiler.encoder.stack import compile_stack
from atoll.lpu.sizes import topology_for
from bench.local import talk
from bench.lpu.graphs import timing

BERT_LARGE_S = 1225e-6
CHIPS = 576


def run() -> dict[str, Any]:
    """Both models."""
    talk("compiling Llama 2 70B for 576 chips")
    begin = time.perf_counter()
    placed = llama(CHIPS)
    compiled_s = time.perf_counter() - begin
    layers = placed.wanted.shape.layers
    talk("compiling BERT-Large for four chips")
    return {
        "llama2_70b_576_us_per_layer": round(1e6 * placed.token_s / layers, 2),
        "llama2_70b_layer_us": round(1e6 * placed.layer_cycles / timing().chip.hertz, 2),
        "llama2_70b_chips_used": placed.chips_used,
        "compile_s_70b": round(compiled_s, 1),
        **bert_large(Shape(timing()), layers=24, chips=4, published_s=BERT_LARGE_S),
    }


def llama(chips: int) -> Placed:
    """Llama 2 70B with 4,096 positions."""
    shape = shipped_models().shapes.find("Llama-2-70B")
    topology = topology_for(chips)
    return place_decoder(timing(), topology, Wanted(shape=shape, chips=chips, context=4096))


def bert_large(shape: Shape, *, layers: int, chips: int, published_s: float) -> dict[str, float]:
    """A stack of encoders against a published latency; scales of numbers cost no cycle."""
    ones = Scales(**dict.fromkeys(Scales.__dataclass_fields__, 1 / 64))
    stack = compile_stack(shape, ones, layers=layers, chips=chips)
    return {
        "bert_large_us": round(1e6 * stack.total_s, 1),
        "bert_large_chip_us": round(1e6 * stack.chip_s, 1),
        "error_bert_large": round(abs(stack.total_s / published_s - 1), 3),
    }
