"""What a compiled graph finds in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.lpu_small import timing_of

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.graphs.graph import Graph, Node
from atoll.lpu.compiler.graphs.operators import CompiledGraph, compile_graph
from atoll.lpu.graph_laying import GraphLaying, Weights
from atoll.lpu.laying import VERY_LOW, Rotation
from atoll.lpu.words import Values, value_of

X = Node(name="x", op="input", width=400)


def compiled(op: str, **more: Any) -> CompiledGraph:
    return compile_graph(
        timing_of(), Graph((X, Node(name="y", op=op, inputs=("x",), **more)), ("y",))
    )


def rows(found: CompiledGraph, what: str, weights: Weights | None = None) -> Values:
    """A table of halves."""
    laying = GraphLaying(found, {"y": weights} if weights else {})
    [piece] = [piece for piece in found.pieces if piece.what == what]
    words = laying.words(piece)
    assert words.shape == (piece.words, 2, 320)
    return value_of(words, "f16", 320 * piece.words).reshape(-1, 320)


def test_tables_of_a_width() -> None:
    low = rows(compiled("softmax"), "low")
    assert not low[0].any()
    assert not low[1, :80].any()
    assert set(low[1, 80:]) == {np.float16(VERY_LOW)}
    lanes = rows(compiled("exp"), "lanes")
    assert lanes.sum() == 400
    assert lanes[1, 79] == 1


def test_tables_of_a_lane() -> None:
    found = compiled("slice", first=300, width=50)
    assert rows(found, "before lane").sum() == 20
    assert rows(found, "after lane")[0, 20:].all()


def test_rotations_of_every_position() -> None:
    found = compiled("rotate", head_dim=80, positions=3, half=True)
    weights = Weights(rotation=Rotation(80, 100.0))
    cosine = rows(found, "cosine y", weights)
    assert cosine.shape == (3, 320)
    assert np.allclose(cosine[2], np.tile(np.cos(2 * 100.0 ** (-np.arange(40) / 40)), 8), atol=1e-3)


def test_scales_of_integers_are_of_even_and_of_odd_vectors() -> None:
    found = compiled("product", width=700, stored="int8")
    matrix = np.outer(np.arange(1, 701), np.ones(400)).astype(np.float32)
    laying = GraphLaying(found, {"y": Weights(matrix=matrix)})
    pieces = {p.part: laying.words(p) for p in found.pieces if p.what == "matrix y scales"}
    even, odd = (value_of(pieces[n,], "f32", 320) for n in (0, 1))
    assert np.allclose(even, np.arange(1, 321) / 127)
    assert np.allclose(odd, np.arange(321, 641) / 127)


@pytest.mark.parametrize(
    ("op", "given", "said"),
    [
        ("product", None, r"missing .*\(30, 400\)"),
        ("product", Weights(matrix=np.zeros((400, 30), np.float32)), r"of shape \(400, 30\)"),
        ("gated", Weights(matrix=np.zeros((30, 400), np.float32)), "missing"),
        ("norm", None, r"missing .*\(400,\)"),
        ("rotate", None, "no rotation"),
    ],
)
def test_weights_that_are_missing_or_of_another_shape(
    op: str, given: Weights | None, said: str
) -> None:
    more = {"head_dim": 80, "positions": 3} if op == "rotate" else {}
    more |= {"width": 30} if op in ("product", "gated") else {}
    found = compiled(op, **more)
    laying = GraphLaying(found, {"y": given} if given else {})
    with pytest.raises(BadRequest, match=said):
        list(map(laying.words, found.pieces))
