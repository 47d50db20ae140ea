"""`atoll lpu run` as its user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.conftest import MakeModel

pytestmark = pytest.mark.engine


@pytest.mark.long
def test_the_demo_model_answers(run_plainly: Run, demo_model: Path) -> None:
    prompt = "The capital of France is Paris, and the capital of Italy is"
    done = run_plainly(
        *("lpu", "run", str(demo_model), prompt, "--plain", "--max-tokens", "1", "--context", "64")
    )
    assert (done.code, done.out) == (0, " Rome\n"), done.err
    assert "chips: 3, weights of f16: compiled in " in done.err
    assert "token 13 of 13 of the prompt: here " in done.err
    assert "13 + 1 tokens: each " in done.err


def test_numbers_as_json(run: Run, random_model: MakeModel) -> None:
    model = str(random_model(n_layers=2))
    arguments = ("lpu", "run", model, "the", "tree", "--context", "64", "--max-tokens", "3")
    plain, done = run(*arguments), run(*arguments, "--json", "--weights", "int8")
    assert (plain.code, done.code) == (0, 0), plain.err + done.err
    found = json.loads(done.out)
    assert (found["weights"], found["answer_tokens"], found["context"]) == ("int8", 3, 64)
    assert found["system"] == "GroqNode"
    assert found["token_us"] == pytest.approx(found["token_cycles"] / 900)
    assert "weights of f16" in plain.err


def test_what_cannot_be(run: Run, random_model: MakeModel, demo_model: Path) -> None:
    model = str(random_model(n_layers=2))
    for arguments, problem, hint in (
        (
            (str(demo_model), "x", "--weights", "f16", "--chips", "1"),
            "does not fit on 1 chips",
            "3 chips would",
        ),
        ((model, "the tree " * 9, "--context", "8"), "and the context 8 positions", "larger"),
        ((model, "x", "--chips", "9", "--system", "GroqNode"), "GroqNode has 8 chips at most", ""),
        ((str(random_model("qwen2")), "x"), "of the architecture 'qwen2'", "covered are"),
        ((str(random_model(n_expert=4)), "x"), "llama.expert_count", "covered are"),
    ):
        done = run("lpu", "run", *arguments)
        assert done.code == 2, done.err
        assert problem in done.err
        assert hint in done.err
        assert done.out == ""


def test_no_gguf_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(b"something else" * 10)
    done = run("lpu", "run", str(path), "x")
    assert done.code == 3
    assert "not a GGUF file" in done.err
