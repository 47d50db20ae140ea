"""Instructions that hang together, and what they wait for."""

from __future__ import annotations

import pytest
from tests.support.lpu_small import timing_of

from atoll.lpu.compiler.board import Board
from atoll.lpu.compiler.chain import LATER, Chain, Tensor, moved
from atoll.lpu.program import Alu, Flow, Multiply, Read, Switch, Write

TIMING = timing_of()


def doubled(source: Tensor, into: Tensor, count: int = 1) -> Chain:
    """A chain that reads vectors, doubles them, and writes them."""
    chain = Chain(TIMING)
    vector = chain.read(source, count=count)
    out = chain.streams(into.side, "out", len(into.slices))
    [left] = chain.vector(
        [vector], [Alu("add", (0, 0))], [(1, into.number, out)], at=0, count=count
    )
    chain.write(into, out, at=left, count=count)
    return chain


def test_a_chain_begins_when_what_it_reads_is_there() -> None:
    board = Board()
    first = Tensor("f32", "west", (40, 41, 42, 43), 0, 3)
    second = Tensor("f32", "east", (40, 41, 42, 43), 0, 3)
    third = Tensor("f32", "west", (0, 1, 2, 3), 0, 3)
    # Slices 40 to 43 are 11 registers from the middle: nothing is read before cycle 0.
    assert doubled(first, second, 3).place(board, 0) == 11
    delay, memory = TIMING.assumed.alu_cycles, TIMING.assumed.memory_cycles
    assert second.there == [11 + n + delay + 11 + memory for n in range(3)]
    # The last is still written in the cycle in which the first could be read.
    assert doubled(second, third, 3).place(board, 0) == second.there[0] + 11 + 1


def test_chains_that_need_the_same_slices_come_one_after_the_other() -> None:
    board = Board()
    source = Tensor("f32", "west", (40, 41, 42, 43), 0, 4)
    begins = []
    for n in range(3):
        chain = Chain(TIMING)
        operand = chain.read(source, first=n)
        kept = Tensor("f32", "east", (0, 1, 2, 3), n, 1)
        out = chain.streams("east", "out", 4)
        chain.vector([operand], [], [(0, "f32", out)], at=0)
        chain.write(kept, out, at=0)
        begins.append(chain.place(board, 0))
    assert begins == [11, 12, 13]


def test_bytes_of_a_tensor_are_there_when_it_is() -> None:
    tensor = Tensor("f16", "west", (4, 5), 10, 2)
    low, high = tensor.byte(0), tensor.byte(1)
    assert (low.slices, high.slices, low.address) == ((4,), (5,), 10)
    assert tensor.there == [-LATER, -LATER]
    tensor.there[1] = 7
    assert high.since(1) == 7


def test_more_streams_than_there_are_is_a_fault_of_ours() -> None:
    chain = Chain(TIMING)
    chain.streams("west", "out", 30)
    with pytest.raises(AssertionError, match="streams"):
        chain.streams("west", "out", 4)


def test_steps_take_alus_that_others_of_the_chain_do_not_have() -> None:
    chain = Chain(TIMING)
    tensor = Tensor("f32", "west", (40, 41, 42, 43), 0, 1)
    operand = chain.read(tensor)
    for side in ("west", "east"):
        out = chain.streams(side, "out", 4)
        chain.vector([operand], [Alu("exp", (0,)), Alu("add", (1, 0))], [(2, "f32", out)], at=0)
    taken = [n.mask for n in chain.needs if n.parts == "alu"]
    assert taken == [1, 2, 4, 8]


def test_moving_moves_results_too() -> None:
    flow = Flow("west", "out", 0, 2)
    back = Flow("west", "in", 8, 2)
    product = Multiply(at=1, flow=flow, plane=0, number="f16", result=back, result_at=5)
    turned = Switch(at=1, flow=flow, result=back, result_at=5, shift=1)
    read = Read(at=1, flow=flow, slices=(0, 1), address=3)
    written = Write(at=1, flow=flow, slices=(0, 1), address=3)
    for later in (moved(product, 10), moved(turned, 10)):
        assert isinstance(later, Multiply | Switch)
        assert (later.at, later.result_at) == (11, 15)
    assert [moved(i, 10).at for i in (read, written)] == [11, 11]
