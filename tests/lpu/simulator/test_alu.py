"""What ALUs compute, and numbers as bytes on streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.program import Alu, AluOp, Flow, Number, Operand, Vector
from atoll.lpu.simulator.alu import HELD, compute, convert, decode, encode, kinds

NUMBERS: tuple[Number, ...] = ("int8", "int32", "f16", "f32")


def f32(*values: float) -> np.ndarray[Any, np.dtype[Any]]:
    return np.array([values], np.float32)


@pytest.mark.parametrize(
    ("op", "one", "other", "wanted"),
    [
        ("add", 1.5, 2.25, 3.75),
        ("sub", 1.5, 2.25, -0.75),
        ("mul", 1.5, -2.0, -3.0),
        ("max", 1.5, -2.0, 1.5),
        ("min", 1.5, -2.0, -2.0),
    ],
)
def test_two_arguments(op: AluOp, one: float, other: float, wanted: float) -> None:
    found = compute(op, [f32(one), f32(other)], ["f32", "f16"])
    assert found.dtype == np.float32
    assert found[0, 0] == wanted


@pytest.mark.parametrize(
    ("op", "value", "wanted"),
    [
        ("exp", 1.0, np.exp(np.float32(1))),
        ("tanh", 0.5, np.tanh(np.float32(0.5))),
        ("rsqrt", 4.0, 0.5),
        ("relu", -4.0, 0.0),
        ("relu", 4.0, 4.0),
    ],
)
def test_one_argument(op: AluOp, value: float, wanted: float) -> None:
    found = compute(op, [f32(value)], ["f32"])
    assert found.dtype == np.float32
    assert found[0, 0] == pytest.approx(wanted, rel=1e-6)


def test_integers_stay_integers_and_wrap() -> None:
    bytes_of = np.array([[127, -128]], np.int8)
    found = compute("add", [bytes_of, bytes_of], ["int8", "int8"])
    assert found.dtype == np.int32
    assert found.tolist() == [[254, -256]]
    most = np.array([[2**31 - 1]], np.int32)
    assert compute("add", [most, most], ["int32", "int32"]).tolist() == [[-2]]
    assert compute("relu", [bytes_of], ["int8"]).tolist() == [[127, 0]]
    mixed = compute("mul", [bytes_of, np.asarray(np.float32(0.5))], ["int8", "f32"])
    assert mixed.dtype == np.float32
    assert mixed.tolist() == [[63.5, -64.0]]


def test_conversions_round_to_even_and_hold_integers_within_the_format() -> None:
    values = f32(0.5, 1.5, -2.5, 300.0, -300.0, np.nan, np.inf, -3e9, 3e9)
    assert convert(values, "f32", "int8").tolist() == [[0, 2, -2, 127, -128, 0, 127, -128, 127]]
    whole = [0, 2, -2, 300, -300, 0, 2**31 - 1, -(2**31), 2**31 - 1]
    assert convert(values, "f32", "int32").tolist() == [whole]
    assert convert(np.array([[200, -200, 5]], np.int32), "int32", "int8").tolist() == [
        [127, -128, 5]
    ]


def test_halves_are_rounded_once() -> None:
    assert convert(f32(2049.0, 2051.0), "f32", "f16").tolist() == [[2048.0, 2052.0]]
    with np.errstate(over="ignore"):
        assert convert(f32(70000.0), "f32", "f16").tolist() == [[np.inf]]
        whole = np.arange(-70000, 70001, dtype=np.int32).reshape(1, -1)
        once = whole.astype(np.float64).astype(np.float16)
        assert np.array_equal(convert(whole, "int32", "f16"), once)
    assert convert(np.array([[-128, 7]], np.int8), "int8", "f16").tolist() == [[-128.0, 7.0]]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_come_back_from_streams(number: Number) -> None:
    raw = np.random.default_rng(1).integers(-100, 100, (5, 320)).astype(HELD[number])
    streams = encode(raw, number)
    assert streams.dtype == np.uint8
    found = decode(streams, number)
    assert found.dtype == HELD[number]
    assert np.array_equal(found, raw)


def test_the_lowest_byte_is_on_the_first_stream() -> None:
    streams = encode(np.array([[0x04030201]], np.int32), "int32")
    assert streams[0, :, 0].tolist() == [1, 2, 3, 4]
    assert encode(f32(1.0), "f16")[0, :, 0].tolist() == [0x00, 0x3C]


def test_all_halves_are_held() -> None:
    stored = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(1, -1)
    stored = stored[:, ~np.isnan(stored[0])]
    streams = stored.view(np.uint8).reshape(1, -1, 2).transpose(0, 2, 1)
    assert np.array_equal(encode(decode(streams, "f16"), "f16"), streams)


def chain(*steps: Alu) -> Vector:
    operands = (
        Operand(Flow("east", "in", 0, 1), "int8"),
        Operand(Flow("east", "in", 1, 2), "f16"),
    )
    return Vector(at=0, operands=operands, steps=steps, results=())


def test_formats_of_values() -> None:
    vector = chain(
        Alu("add", (0, 0)),
        Alu("mul", (1, 1)),
        Alu("mul", (0, 0.5)),
        Alu("f16", (3,)),
        Alu("exp", (0,)),
    )
    assert kinds(vector, "it") == ("int8", "f16", "int32", "f32", "f32", "f16", "f32")


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (Alu("add", (0,)), "it: add of 1 and not of 2"),
        (Alu("exp", (0, 1)), "it: exp of 2 and not of 1"),
        (Alu("add", (0, 2)), "it: add of value 2, which is not there"),
        (Alu("add", (0, -1)), "it: add of value -1, which is not there"),
    ],
)
def test_steps_that_cannot_be(step: Alu, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        kinds(chain(step), "it")
