"""Time per token on chips that hold all weights in SRAM and run a schedule fixed in advance.

    t = layers x (a + h x hidden)

Weights pass no memory that could be a bound (576 chips of 230 MB at 80 TB/s each would read
Llama 2 70B in 2 microseconds): a token waits for the layers one after the other, each with
its products, vector operations and transfers between chips. `a` is what a layer costs
however narrow it is, `h` what its width adds.

Times of compiled schedules (`lpu_compiled`) are shown beside it and not put into its place: the
services that were measured are 0.6 to 0.75 milliseconds a token slower, with 8 and with 70
billion weights alike, but that is of three published speeds.

Sources: the machine, Abts et al., ISCA 2020 and 2022; that published speeds are 36 to 49
microseconds a layer: Llama 2 and 3 of 8 and 70 billion weights, BERT-Large on four chips.
"""

from __future__ import annotations

from atoll.forecast.constants import Constant, Constants
from atoll.forecast.shapes import ModelShape

LAYER_S = Constant("lpu.layer_s", 26e-6, (0.5,), "least of what published speeds leave")
WIDTH_S = Constant("lpu.width_s", 2.2e-9, (0.7,), "the difference of layers 4,096 and 8,192 wide")
EXPERTS_S = Constant("lpu.experts_s", 10e-6, (1.0,), "a choice of experts, and the way to them")
FIRST_S = Constant("lpu.first_s", 0.2, (0.5,), "network, queue and prompt of a public service")


def token_s(shape: ModelShape, constants: Constants) -> float:
    """Seconds for one token of one stream."""
    layer_s = constants.of(LAYER_S) + constants.of(WIDTH_S) * shape.hidden
    if shape.experts:
        layer_s += constants.of(EXPERTS_S)
    return shape.layers * layer_s


def first_token_s(constants: Constants) -> float:
    """Seconds to the first token of a short prompt, as a client of the service sees it."""
    return constants.of(FIRST_S)
