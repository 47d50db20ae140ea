"""`atoll lpu` as its user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run

MODEL = """
[[models]]
name = "Small"
layers = 4
hidden = 700
heads = 8
kv_heads = 4
head_dim = 32
ffn = 1500
vocab = 150
source = "made"
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(MODEL)
    return str(path)


def test_numbers_of_a_token(run_plainly: Run, model: str) -> None:
    done = run_plainly("lpu", "compile", model, "--chips", "8", "--context", "40", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert (found["model"], found["system"], found["chips"]) == ("Small", "GroqNode", 8)
    assert (found["weights"], found["width"], found["chips_used"]) == ("f16", 1, 1)
    parts = {part["name"]: part for part in found["parts"]}
    assert list(parts) == ["attention", "feed-forward", "head"]
    cycles = sum(part["times"] * part["cycles"] for part in parts.values())
    assert found["token_cycles"] == cycles + found["hand_over_cycles"]
    assert found["token_us"] == pytest.approx(cycles / 900)
    seconds = (found["token_us"] + found["host_us"]) / 1e6
    assert found["tokens_per_s"] == pytest.approx(1 / seconds)
    assert found["joules_per_token"] == pytest.approx(300 * found["token_us"] / 1e6)
    assert 0 < parts["feed-forward"]["load"] < 1
    assert "compiling for groups of 1, weights of f16" in done.err


def test_the_table(run_plainly: Run, model: str) -> None:
    done = run_plainly(
        *("lpu", "compile", model, "--chips", "20", "--context", "40"),
        *("--system", "groqrack", "--weights", "int8"),
    )
    assert done.code == 0
    assert "Small on GroqRack, weights of int8" in done.out
    assert "chips used        1 of 20, 1 for a layer" in done.out
    assert "assumed, as no source gives them: 2 cycles of a vector ALU" in done.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("Llama-2-70B", "--chips", "8"), "Llama-2-70B does not fit on 8 chips"),
        (("Mixtral-8x7B", "--chips", "72"), "Mixtral-8x7B has experts, which is not compiled"),
        (("Llama-2-70B", "--chips", "9", "--system", "GroqNode"), "GroqNode has 8 chips at most"),
        (("Llama-2-70B", "--chips", "8", "--system", "LPX"), "not published"),
        (("Llama-2-70B", "--chips", "8", "--context", "9999"), "a context of 9999 positions"),
    ],
)
def test_what_cannot_be(run_plainly: Run, arguments: tuple[str, ...], problem: str) -> None:
    done = run_plainly("lpu", "compile", *arguments)
    assert done.code == 2
    assert problem in done.err
