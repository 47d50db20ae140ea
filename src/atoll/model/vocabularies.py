"""Whether two models have the same vocabulary: a token's number means the same to both."""

from __future__ import annotations

from atoll.model.gguf_types import GgufFile, MetaValue, ValueType

TOKENS = "tokenizer.ggml.tokens"
KEYS = ("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.eos_token_id")
"""How text is cut into tokens, and which token ends an answer (gguf's key names)."""


def difference(one: GgufFile, other: GgufFile) -> str:
    """How the vocabulary of `one` differs from that of `other`, for people; empty: it does not."""
    tokens, theirs = _tokens(one), _tokens(other)
    if tokens is None or theirs is None:
        return "there is no list of tokens"
    if tokens.count != theirs.count:
        return f"it has {tokens.count} tokens, not {theirs.count}"
    if tokens.raw != theirs.raw:
        pairs = zip(tokens.items(), theirs.items(), strict=True)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), 0)
        return f"its token {at} is another one"
    for key in KEYS:
        if one.metadata.get(key) != other.metadata.get(key):
            return f"its {key.rpartition('.')[2]} is another one"
    return ""


def _tokens(gguf: GgufFile) -> MetaValue | None:
    found = gguf.metadata.get(TOKENS)
    return found if found is not None and found.type is ValueType.ARRAY else None
