"""A decoder in NumPy in f32, all tokens of a text at once: what exact arithmetic makes of weights.

It shares no code with the compiler or the simulator but the reading of weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from atoll.engine.float_weights import DecoderFacts
from atoll.lpu.laying import HeadWeights, LayerWeights

Values = NDArray[np.float32]


def logits_of(
    facts: DecoderFacts,
    layer: Callable[[int], LayerWeights],
    head: HeadWeights,
    texts: list[Values],
) -> list[Values]:
    """Logits behind each token of each text, shape (tokens, vocabulary).

    Args:
        facts: The decoder's.
        layer: Weights of a layer by its number; asked for once each.
        head: The last norm and the head.
        texts: Embeddings of each text's tokens, shape (tokens, hidden).
    """
    states = list(texts)
    for number in range(facts.shape.layers):
        weights = layer(number)
        states = [_layer(facts, weights, state) for state in states]
    return [_normed(state, head.norm, facts.eps) @ head.head.T for state in states]


def _layer(facts: DecoderFacts, weights: LayerWeights, state: Values) -> Values:
    normed = _normed(state, weights.attention_norm, facts.eps)
    state = state + _attention(facts, weights, normed)
    normed = _normed(state, weights.feed_forward_norm, facts.eps)
    gate = normed @ weights.gate.T
    inner = gate / (1 + np.exp(-gate)) * (normed @ weights.up.T)
    return np.asarray(state + inner @ weights.down.T, np.float32)


def _normed(state: Values, weight: Values, eps: float) -> Values:
    mean = np.mean(state * state, axis=-1, keepdims=True)
    return np.asarray(state / np.sqrt(mean + np.float32(eps)) * weight, np.float32)


def _attention(facts: DecoderFacts, weights: LayerWeights, state: Values) -> Values:
    shape, tokens = facts.shape, len(state)
    dim, shared = shape.head_dim, shape.heads // shape.kv_heads
    query = _rotated(facts, (state @ weights.query.T).reshape(tokens, shape.heads, dim))
    key = _rotated(facts, (state @ weights.key.T).reshape(tokens, shape.kv_heads, dim))
    value = (state @ weights.value.T).reshape(tokens, shape.kv_heads, dim)
    key, value = (np.repeat(both, shared, axis=1) for both in (key, value))
    scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(np.float32(dim))
    scores = np.where(np.tri(tokens, dtype=bool), scores, np.float32(-np.inf))
    share = np.exp(scores - scores.max(axis=-1, keepdims=True))
    share /= share.sum(axis=-1, keepdims=True)
    mixed = np.einsum("hqk,khd->qhd", share, value).reshape(tokens, -1)
    return np.asarray(mixed @ weights.output.T, np.float32)


def _rotated(facts: DecoderFacts, heads: Values) -> Values:
    """Heads of each position turned by its angles; shape (tokens, heads, size)."""
    dims = facts.rotation.dims
    pairs = np.arange(dims // 2)
    frequency = facts.rotation.base ** (-2.0 * pairs / dims)
    angle = (np.arange(len(heads))[:, None] * frequency)[:, None, :]
    cosine, sine = (f(angle).astype(np.float32) for f in (np.cos, np.sin))
    first, second = (
        (slice(0, dims // 2), slice(dims // 2, dims))
        if facts.half
        else (slice(0, dims, 2), slice(1, dims, 2))
    )
    turned = heads.copy()
    turned[..., first] = heads[..., first] * cosine - heads[..., second] * sine
    turned[..., second] = heads[..., second] * cosine + heads[..., first] * sine
    return turned
