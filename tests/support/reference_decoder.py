"""A decoder in NumPy, token by token, to hold a chip's schedule to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from atoll.forecast.shapes import ModelShape
from atoll.lpu.laying import HeadWeights, LayerWeights, Rotation

Values = NDArray[np.float32]


def random_weights(shape: ModelShape, seed: int) -> tuple[list[LayerWeights], HeadWeights]:
    """Weights that keep the hidden vector about as large as it was."""
    rng = np.random.default_rng(seed)

    def matrix(outs: int, ins: int) -> Values:
        return np.asarray(rng.standard_normal((outs, ins)) / np.sqrt(ins), np.float32)

    def norm() -> Values:
        return (1 + 0.1 * rng.standard_normal(shape.hidden)).astype(np.float32)

    wide, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layers = [
        LayerWeights(
            norm(),
            matrix(wide, shape.hidden) * 3,
            matrix(kv, shape.hidden),
            matrix(kv, shape.hidden),
            matrix(shape.hidden, wide),
            norm(),
            matrix(shape.ffn, shape.hidden),
            matrix(shape.ffn, shape.hidden),
            matrix(shape.hidden, shape.ffn),
        )
        for _ in range(shape.layers)
    ]
    return layers, HeadWeights(norm(), matrix(shape.vocab, shape.hidden))


@dataclass
class ReferenceDecoder:
    """Computes in f64; `half` turns lanes of a head's halves with each other."""

    shape: ModelShape
    layers: Sequence[LayerWeights]
    head: HeadWeights
    rotation: Rotation
    eps: float
    half: bool = False
    keys: list[list[NDArray[np.float64]]] = field(default_factory=list)
    values: list[list[NDArray[np.float64]]] = field(default_factory=list)

    def token(self, hidden: Values) -> NDArray[np.float64]:
        """Logits after the next position's hidden vector."""
        if not self.keys:
            self.keys = [[] for _ in self.layers]
            self.values = [[] for _ in self.layers]
        x = hidden.astype(np.float64)
        for n, layer in enumerate(self.layers):
            x = x + self._attention(n, layer, self._norm(x, layer.attention_norm))
            y = self._norm(x, layer.feed_forward_norm)
            gate = layer.gate @ y
            x = x + layer.down @ (gate / (1 + np.exp(-gate)) * (layer.up @ y))
        return np.asarray(self.head.head @ self._norm(x, self.head.norm))

    def _norm(self, x: NDArray[np.float64], weight: Values) -> NDArray[np.float64]:
        return np.asarray(x / np.sqrt(np.mean(x * x) + self.eps) * weight)

    def _attention(
        self, n: int, layer: LayerWeights, x: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        dim = self.shape.head_dim
        position = len(self.keys[n])
        query = self._rotated((layer.query @ x).reshape(-1, dim), position)
        self.keys[n].append(self._rotated((layer.key @ x).reshape(-1, dim), position))
        self.values[n].append((layer.value @ x).reshape(-1, dim))
        keys, values = np.array(self.keys[n]), np.array(self.values[n])
        rows = self.shape.heads // self.shape.kv_heads
        found = []
        for h, q in enumerate(query):
            scores = keys[:, h // rows] @ q / np.sqrt(dim)
            share = np.exp(scores - scores.max())
            found.append(share / share.sum() @ values[:, h // rows])
        return np.asarray(layer.output @ np.concatenate(found))

    def _rotated(self, heads: NDArray[np.float64], position: int) -> NDArray[np.float64]:
        dims = self.rotation.dims
        pairs = np.arange(dims // 2)
        angle = position * self.rotation.base ** (-2.0 * pairs / dims)
        first, second = (
            (slice(0, dims // 2), slice(dims // 2, dims))
            if self.half
            else (slice(0, dims, 2), slice(1, dims, 2))
        )
        turned = heads.copy()
        turned[:, first] = heads[:, first] * np.cos(angle) - heads[:, second] * np.sin(angle)
        turned[:, second] = heads[:, second] * np.cos(angle) + heads[:, first] * np.sin(angle)
        return turned
