"""Models by name, and what their files weigh."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.models import parse_models, shipped_models

MINE = """
[[models]]
name = "reef-1b"
layers = 16
hidden = 2048
heads = 32
kv_heads = 8
head_dim = 64
ffn = 8192
vocab = 128256
"""


def test_names_of_models() -> None:
    shapes = shipped_models().shapes
    assert shapes.find("llama-3.1-8b").layers == 32
    assert shapes.find("Llama 3.2:3b") is shapes.find("Llama-3.2-3B")
    with pytest.raises(BadRequest) as caught:
        shapes.find("Lama-3.1-70B")
    assert caught.value.hint == "the nearest name is 'Llama-3.1-70B'"


def test_bits_of_real_files() -> None:
    models = shipped_models()
    shape = models.shapes.find("Llama-2-7B")
    assert models.bits(shape, "q4_0") == pytest.approx(4.54, abs=0.01)
    # No file of it is known: those of the format.
    assert models.bits(shape, "Q6_K") == pytest.approx(6.56)
    gpt = models.shapes.find("gpt-oss-20b")
    assert models.bits(gpt, "MXFP4", packager="ollama") > models.bits(gpt, "MXFP4")
    with pytest.raises(BadRequest, match="no known precision"):
        models.bits(shape, "Q17")


def test_a_model_of_ones_own() -> None:
    [shape] = parse_models(MINE, source="mine.toml").shapes
    assert shape.counted_params == pytest.approx(1.5e9, rel=0.05)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[models]", "mine.toml cannot be read"),
        (MINE + "colour = 3", "unknown field `colour`"),
        (MINE.replace("layers = 16", ""), "required field `layers`"),
        (MINE.replace("= 16", "= 'many'"), "cannot be read"),
        (MINE.replace("kv_heads = 8", "kv_heads = 7"), "unevenly"),
    ],
)
def test_files_that_are_none(text: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_models(text, source="mine.toml")
    assert problem in str(caught.value)
