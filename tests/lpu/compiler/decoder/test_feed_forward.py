"""The gated block's inner activations."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_rig import LANES, Rig, vectors

from atoll.lpu.compiler.decoder.feed_forward import gated
from atoll.lpu.compiler.memory import Stored


@pytest.mark.parametrize("kept", ["f16", "int8"])
@pytest.mark.parametrize("ffn", [320, 960])
def test_gates(kept: Stored, ffn: int) -> None:
    rng = np.random.default_rng(ffn)
    x = rng.standard_normal(500)
    size = 0.1 if kept == "f16" else 60.0
    gate, up = (np.rint(rng.standard_normal((500, ffn)) * size * 64) / 64 for _ in range(2))
    scale = 1.0
    if kept == "int8":
        gate, up = (np.clip(np.rint(m), -127, 127) for m in (gate, up))
        scale = 0.002
    blocks = [m[:, n : n + LANES] for n in range(0, ffn, LANES) for m in (gate, up)]
    joined = np.concatenate(blocks, axis=1)
    rig = Rig(stored=kept)
    scales = np.full(joined.shape[1], scale) if kept == "int8" else None
    made = gated(rig.builder, rig.put(vectors(x), "f16"), rig.matrix(joined, scales))
    rig.run()
    halves = x.astype(np.float16).astype(np.float64)
    g, u = halves @ gate * scale, halves @ up * scale
    wanted = g / (1 + np.exp(-g)) * u
    found = rig.get(made).reshape(-1)[:ffn]
    assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()
