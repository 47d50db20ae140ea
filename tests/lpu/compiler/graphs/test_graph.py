"""Passes over graphs of operators, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.graphs.graph import Graph, Node, checked, formatted, ordered, widths

LANES = 320


def node(name: str, op: str, *inputs: str, **more: Any) -> Node:
    return Node(name=name, op=op, inputs=inputs, **more)


X = node("x", "input", width=700, number="f32")
MLP = Graph(
    (
        node("sum", "add", "down", "x", number="f32"),
        node("down", "product", "inner", width=700, stored="int8", number="f32"),
        node("unused", "tanh", "inner"),
        node("inner", "gated", "y", width=1500),
        node("y", "norm", "x", number="f32"),
        X,
        node("shares", "softmax", "sum", number="f32"),
        node("three", "slice", "shares", first=317, width=5),
    ),
    ("three", "sum"),
)


def test_what_the_passes_make_of_a_feed_forward_block() -> None:
    nodes = formatted(ordered(checked(MLP)))
    wide = widths(nodes, LANES)
    found = [f"{n.name} {wide[n.name]} {n.number} = {n.op} {' '.join(n.inputs)}" for n in nodes]
    assert found == [
        "x 700 f32 = input ",
        "y:made 700 f16 = norm x",
        "y 700 f32 = cast y:made",
        "y:f16 700 f16 = cast y",
        "inner 1500 f16 = gated y:f16",
        "down 700 f32 = product inner",
        "sum 700 f32 = add down x",
        "shares 700 f32 = softmax sum",
        "three 5 f16 = slice shares",
    ]
    assert {n.origin for n in nodes} == {n.name for n in MLP.nodes} - {"unused"}


def test_a_value_is_converted_once_for_all_that_take_it() -> None:
    graph = Graph((X, *(node(name, "product", "x", width=3) for name in "abc")), ("a", "b", "c"))
    assert [n.op for n in formatted(ordered(graph))] == ["input", "cast", *3 * ["product"]]


def test_inputs_that_nothing_needs_are_there() -> None:
    graph = Graph((node("z", "input", width=3), X), ("x",))
    assert [n.name for n in ordered(graph)] == ["z", "x"]


@pytest.mark.parametrize(
    ("nodes", "outputs", "said"),
    [
        ([X], [], "without outputs"),
        ([], ["x"], "no value x"),
        ([X, node("y", "conv", "x")], ["y"], "no operator 'conv'.*input, product"),
        ([X, X], ["x"], "called 'x'"),
        ([node("x y", "input", width=1)], ["x y"], "called 'x y'"),
        ([node("", "input", width=1)], [""], "called ''"),
        ([X, node("y", "add", "x")], ["y"], "add of 1 values and not 2"),
        ([X, node("y", "relu", "z")], ["y"], "y: there is no value z"),
        ([X, node("y", "relu", "x", number="int8")], ["y"], "values of int8"),
        ([X, node("y", "product", "x", width=3, stored="int4")], ["y"], "matrix of int4"),
        ([X, node("y", "product", "x")], ["y"], "a width of 0"),
        ([node("x", "input", width=1 << 16)], ["x"], "a width of 65536"),
        ([X, node("y", "norm", "x", eps=0.0)], ["y"], "eps of 0"),
        ([X, node("y", "norm", "x", eps=float("nan"))], ["y"], "eps of nan"),
    ],
)
def test_what_is_no_graph(nodes: list[Node], outputs: list[str], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        checked(Graph(tuple(nodes), tuple(outputs)))


def test_nodes_that_wait_for_each_other() -> None:
    graph = Graph((X, node("a", "add", "b", "x"), node("b", "relu", "a")), ("b",))
    with pytest.raises(BadRequest, match="a, b"):
        ordered(checked(graph))


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (node("y", "add", "x", "z"), "add of 700 and 701 values"),
        (node("y", "slice", "x", first=699, width=2), "values 699 to 700 of 700"),
        (node("y", "slice", "x", first=-1, width=2), "values -1 to 0 of 700"),
        (node("y", "rotate", "x", head_dim=50, positions=4), "heads of 50 in 700"),
        (node("y", "rotate", "x", head_dim=64, positions=4), "heads of 64 in 700"),
        (node("y", "rotate", "x", head_dim=7, positions=4), "heads of 7 in 700"),
        (node("y", "rotate", "x", head_dim=20), "0 positions"),
        (node("y", "rotate", "x", head_dim=20, positions=5000), "5000 positions"),
    ],
)
def test_shapes_that_do_not_go_together(last: Node, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        widths((X, node("z", "input", width=701), last), LANES)


def test_values_that_are_too_wide() -> None:
    wide = node("x", "input", width=20000)
    with pytest.raises(BadRequest, match="40000 values"):
        widths((wide, node("y", "concat", "x", "x")), LANES)
