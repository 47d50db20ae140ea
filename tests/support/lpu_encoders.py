"""A small encoder: weights, scales, and what it gives by the same quantisation in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.lpu.compiler.encoder.attention import SCORE_MAX
from atoll.lpu.compiler.encoder.layer import Encoder, Scales, key_factor
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.compiler.encoder.words import NORMS, Layer, cut
from atoll.lpu.compiler.rows.dense import GELU
from atoll.lpu.compiler.rows.room import Room
from atoll.lpu.compiler.rows.words import Words, row_words, rows_of
from atoll.lpu.program import NUMBER_BYTES, Number
from atoll.lpu.simulator.simulator import Simulator

Array = NDArray[Any]
WEIGHTS = ("query", "key", "value", "output", "inner", "outer")


def gelu(x: Array) -> Array:
    """By tanh, in f64."""
    a, b = GELU
    found: Array = x / 2 * (1 + np.tanh(a * (x + b * x**3)))
    return found


def held(x: Array, step: float) -> Array:
    """As int8, whole numbers in f64."""
    found: Array = np.clip(np.rint(x / step), -128, 127)
    return found


def half(x: Array) -> Array:
    """Rounded to f16, in f64."""
    found: Array = x.astype(np.float16).astype(np.float64)
    return found


def norm(x: Array, gain: Array, offset: Array) -> Array:
    """Layer norm of rows."""
    spread = np.sqrt(x.var(axis=1, keepdims=True) + 1e-12)
    found: Array = (x - x.mean(axis=1, keepdims=True)) / spread * gain + offset
    return found


@dataclass(frozen=True)
class Model:
    """What a layer gives, in f64 with int8 and f16 where the compiled one has them."""

    layer: Layer

    def attention(self, x: Array) -> Array:
        """Outputs of heads side by side, int8 in f64."""
        s, shape, w = self.layer.scales, self.layer.shape, self.layer.weights
        q = held(
            x @ self.layer.weights["query"] * (s.x * s.query_weights) + self.layer.vectors["query"],
            s.query,
        )
        k = held(x @ w["key"] * key_factor(s), 1)
        v = (x @ w["value"] * (s.x * s.value_weights)).astype(np.float16)
        step = s.x * s.key_weights / key_factor(s)
        out = []
        for h in range(shape.heads):
            own = slice(h * shape.head, (h + 1) * shape.head)
            scores = q[:, own] @ k[:, own].T * (s.query * step / np.sqrt(shape.head))
            p = np.exp(np.minimum(scores, SCORE_MAX)).astype(np.float16).astype(np.float64)
            out.append(held(p @ v[:, own].astype(np.float64) / p.sum(1, keepdims=True), s.output))
        return np.concatenate(out, axis=1)

    def run(self, x: Array, residual: Array) -> tuple[Array, Array]:
        """y as int8, and as it is added to."""
        s, v, w = self.layer.scales, self.layer.vectors, self.layer.weights
        (g1, b1), (g2, b2) = ((v[f"{name} gain"], v[f"{name} offset"]) for name in NORMS)
        o = self.attention(x) @ w["output"] * (s.output * s.output_weights)
        a = half(norm(half(o + v["output"] + residual), g1, b1))
        inner = held(a, s.attended) @ w["inner"] * (s.attended * s.inner_weights)
        h = held(gelu(inner + v["inner"]), s.inner)
        z = h @ w["outer"] * (s.inner * s.outer_weights) + v["outer"] + a
        y = half(norm(half(z), g2, b2))
        return held(y, s.y), y


def model(shape: Shape, seed: int) -> Model:
    """Random weights, and scales that fit them."""
    rng = np.random.default_rng(seed)
    sizes = dict.fromkeys(WEIGHTS, (shape.hidden, shape.hidden))
    sizes |= {"inner": (shape.hidden, shape.inner), "outer": (shape.inner, shape.hidden)}
    whole = {
        name: np.rint(rng.normal(size=size) * 40).clip(-127, 127) for name, size in sizes.items()
    }
    true = {name: 1 / 40 / np.sqrt(size[0]) for name, size in sizes.items()}
    vectors = {
        name: (rng.normal(size=sizes[name][1]) / 4).astype(np.float16).astype(np.float64)
        for name in WEIGHTS
    }
    for norm_name in NORMS:
        gain, offset = (rng.normal(size=shape.hidden) / 8 for _ in range(2))
        vectors[f"{norm_name} gain"] = (1 + gain).astype(np.float16).astype(np.float64)
        vectors[f"{norm_name} offset"] = offset.astype(np.float16).astype(np.float64)
    scales = Scales(
        x=1 / 32,
        query=1 / 24,
        key=1 / 24,
        output=1 / 96,
        attended=1 / 32,
        inner=1 / 40,
        y=1 / 32,
        **{f"{name}_weights": true[name] for name in WEIGHTS},
    )
    return Model(Layer(shape, scales, whole, vectors))


def lay(
    simulator: Simulator,
    room: Room,
    m: Model,
    x: Array,
    residual: Array,
    *,
    layer: int = 0,
) -> None:
    """Everything that has to be in memory of chip 0 before."""
    for piece in room.pieces:
        base = layer * room.local_words if piece.local else 0
        words = words_of(piece.what, piece.part, piece.words, m, (x, residual))
        assert len(words) == piece.words
        simulator.poke(0, piece.side, piece.slices, piece.address + base, words)


def words_of(
    what: str, part: tuple[int, ...], count: int, m: Model, rows: tuple[Array, Array]
) -> Words:
    """Words of a piece of memory: of parameters, or of rows that come in."""
    if what not in ("x", "residual"):
        return m.layer.words(what, part, count)
    shape = m.layer.shape
    number: Number = "int8" if what == "x" else "f16"
    tile = rows[what == "residual"][cut(part[0], shape.block), cut(part[1], shape.columns[0])]
    return row_words(tile, number, shape.timing.lanes)


def results(simulator: Simulator, encoder: Encoder, chip: int = 0) -> tuple[Array, Array]:
    """y as int8, and as f16."""
    found = []
    width = encoder.shape.group * encoder.shape.head
    for rows in (encoder.x, encoder.residual):
        parts = []
        for block in rows:
            tiles = []
            for t in block:
                assert len(t.slices) == NUMBER_BYTES[t.number]
                words = simulator.peek(chip, t.side, t.slices, t.address, t.count)
                tiles.append(rows_of(words, t.number)[:, :width])
            parts.append(np.concatenate(tiles, axis=1))
        found.append(np.concatenate(parts))
    return found[0], found[1]
