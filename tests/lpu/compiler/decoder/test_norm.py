"""Norms of vectors whose values are of any size."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_rig import Rig, vectors

from atoll.lpu.compiler.decoder.norm import rms_norm


@pytest.mark.parametrize("hidden", [320, 576, 700, 6000])
@pytest.mark.parametrize("size", [0.01, 1.0, 300.0])
@pytest.mark.parametrize("outlier", [0.0, 22_000.0])
def test_it_is_numpys(hidden: int, size: float, outlier: float) -> None:
    rng = np.random.default_rng(hidden)
    x = rng.standard_normal(hidden) * size
    x[7] += outlier
    weight = 1 + 0.1 * rng.standard_normal(hidden)
    rig = Rig()
    given = rig.put(vectors(x), "f32", first=40)
    ones = rig.ones()
    normed = rms_norm(
        rig.builder, given, rig.put(vectors(weight), "f16"), ones, hidden=hidden, eps=1e-5
    )
    rig.run()
    wanted = x / np.sqrt(np.mean(x * x) + 1e-5) * weight
    found = rig.get(normed).reshape(-1)[:hidden]
    assert np.abs(found - wanted).max() <= 2e-3 * np.abs(wanted).max()
    assert np.abs(found - wanted).mean() <= 1e-3 * np.abs(wanted).mean()
