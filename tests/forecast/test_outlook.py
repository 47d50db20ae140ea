"""What a workload weighs."""

from __future__ import annotations

import pytest

from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import Workload

SHAPE = shipped_models().shapes.find("Llama-3.1-70B")


def test_bytes_of_weights_and_caches() -> None:
    work = Workload(SHAPE, 4.5, 500.0, 250.0)
    assert work.weights == pytest.approx(70.55e9 * 4.5 / 8, rel=0.001)
    # Keys and values of eight heads of 128, two bytes each, in 80 layers.
    assert work.cached == 2 * 8 * 128 * 2 * 80 * 750
