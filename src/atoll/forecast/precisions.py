"""How many bits a weight takes, by the names that data formats go by.

Sources: GGUF block formats, ggml `ggml-common.h` (Q4_0: 32 weights of 4 bits and a half
precision scale, 4.5 bits; Q8_0: 8.5; MXFP4: 32 of 4 bits and an 8 bit scale, 4.25, OCP
Microscaling Formats 1.0); NVFP4: 16 of 4 bits and an 8 bit scale, 4.5 (NVIDIA, "Introducing
NVFP4", 2025). Mixtures such as Q4_K_M depend on the model; the figures are those of Llama 3
70B files (llama.cpp, `tools/quantize/README.md`). MLX's groups of 64 with scale and bias take
half a bit more than they are named for (mlx.core.quantize).
"""

from __future__ import annotations

import re

from atoll.domain.errors import BadRequest

BITS: dict[str, float] = {
    "f32": 32.0,
    "f16": 16.0,
    "bf16": 16.0,
    "fp16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "fp4": 4.5,
    "nvfp4": 4.5,
    "mxfp4": 4.25,
    "uint4": 4.5,
    "int4": 4.5,
    "q8_0": 8.5,
    "q6_k": 6.56,
    "q5_k_m": 5.7,
    "q5_0": 5.5,
    "q4_k_m": 4.85,
    "q4_0": 4.5,
    "q4_1": 5.0,
    "q4k": 4.85,
    "q40": 4.5,
    "q4": 4.5,
    "q3_k_m": 3.9,
    "q2_k": 3.0,
    "4-bit": 4.5,
    "8-bit": 8.5,
}


def bits_of(precision: str) -> float:
    """Bits that one weight takes.

    Raises:
        BadRequest: No format goes by that name.
    """
    word = re.split(r"[ ,(]", precision.strip().lower(), maxsplit=1)[0]
    if word not in BITS:
        known = ", ".join(BITS)
        raise BadRequest(f"{precision!r} is no known precision", hint=f"known are {known}")
    return BITS[word]
