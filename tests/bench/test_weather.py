"""Real processes over links that lose, pause and jump: no error, and not a token changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.stream import Streamed

from atoll.store.layout import Store
from bench import weather


def test_the_longest_gap_is_within_one_answer() -> None:
    answers = [Streamed(0.0, (1.0, 1.5, 1.7), b""), Streamed(0.0, (9.0, 9.1), b"")]
    assert weather.longest_gap_s(answers) == 0.5


@pytest.mark.engine
@pytest.mark.network
@pytest.mark.usefixtures("own_children")
@pytest.mark.long
async def test_answers_are_those_of_quiet_links(
    test_store: Store, demo_model: Path, tmp_path: Path
) -> None:
    model = test_store.resolve(str(demo_model))
    found = await weather.measure(model, test_store, tmp_path, tokens=20)
    assert {key: value for key, value in found.items() if key.endswith("_equal")} == {
        "loss_equal": 1.0,
        "pause_equal": 1.0,
        "jumps_equal": 1.0,
    }
    assert found["rings_lost"] == 0
    # It was there at all.
    assert found["pause_gap_s"] > weather.PAUSE_S / 2
