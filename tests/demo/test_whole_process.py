"""The whole model's greedy tokens, computed in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import MakeModel

from atoll.demo.whole_process import Question, compute
from atoll.domain.errors import AtollError
from atoll.engine.whole import WholeModel

pytestmark = pytest.mark.engine


def test_it_gives_so_many_tokens_past_any_end(demo_model: Path) -> None:
    whole = WholeModel(demo_model, n_slots=1, context=128, threads=1)
    try:
        prompt = tuple(whole.vocabulary.tokens("1, 2, 3,", add_special=False, parse_special=False))
        ran = whole.greedy([prompt], 8, exact=True, stop_at_end=False)
        pieces = tuple(whole.vocabulary.piece(token) for token in ran.tokens[0])
    finally:
        whole.close()
    answer = compute(Question(str(demo_model), prompt, 8, 128, 1))
    assert answer.pieces == pieces
    assert len(pieces) == 8
    assert b"4" in b"".join(pieces)
    assert answer.tokens_per_s > 0


def test_a_model_that_cannot_be_loaded(tmp_path: Path, random_model: MakeModel) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(random_model().read_bytes()[:2000])
    with pytest.raises(AtollError):
        compute(Question(str(broken), (1,), 1, 64, 1))
