from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import MakeModel
from tests.support.small_vocabularies import sentencepiece_model

from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import GgufFile, MetaValue, ValueType
from atoll.model.vocabularies import TOKENS, difference


def changed(gguf: GgufFile, key: str, value: MetaValue | None) -> GgufFile:
    metadata = {k: v for k, v in gguf.metadata.items() if k != key}
    return replace(gguf, metadata=metadata if value is None else metadata | {key: value})


def test_a_model_has_its_own_vocabulary(demo_model: Path) -> None:
    gguf = open_gguf(demo_model)
    assert difference(gguf, gguf) == ""
    # Another model of the same tokens is as good.
    assert difference(changed(gguf, "general.name", None), gguf) == ""


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        (TOKENS, None, "no list of tokens"),
        (TOKENS, MetaValue.of(ValueType.UINT32, 3), "no list of tokens"),
        (TOKENS, MetaValue.array(ValueType.STRING, ["a", "b"]), "2 tokens, not 49152"),
        ("tokenizer.ggml.model", MetaValue.of(ValueType.STRING, "llama"), "its model is another"),
        ("tokenizer.ggml.pre", None, "its pre is another"),
        ("tokenizer.ggml.eos_token_id", MetaValue.of(ValueType.UINT32, 7), "its eos_token_id"),
    ],
)
def test_what_differs_is_named(
    demo_model: Path, key: str, value: MetaValue | None, problem: str
) -> None:
    gguf = open_gguf(demo_model)
    assert problem in difference(changed(gguf, key, value), gguf)


def test_as_many_tokens_in_another_order_are_others(demo_model: Path) -> None:
    gguf = open_gguf(demo_model)
    tokens = gguf.metadata[TOKENS].items()
    tokens[5], tokens[6] = tokens[6], tokens[5]
    other = changed(gguf, TOKENS, MetaValue.array(ValueType.STRING, tokens))
    assert difference(other, gguf) == "its token 5 is another one"


def test_models_of_other_families_differ(
    demo_model: Path, random_model: MakeModel, tmp_path: Path
) -> None:
    small = sentencepiece_model(tmp_path / "small.gguf", {})
    assert difference(open_gguf(small), open_gguf(demo_model))
    assert difference(open_gguf(random_model()), open_gguf(demo_model))
