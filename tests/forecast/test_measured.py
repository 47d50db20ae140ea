"""From times of layers to a device: what goes in as a machine comes out as that machine."""

from __future__ import annotations

import msgspec
import pytest

from atoll.domain.errors import BadRequest
from atoll.domain.ids import ModelId
from atoll.domain.measure import NODE_S, Measured, WindowTime
from atoll.forecast.constants import Constants
from atoll.forecast.decode import EXPERT_LAYERS, DecodeRun, prompt_s, token_s
from atoll.forecast.devices import Device
from atoll.forecast.measured import TimedLayer, TimedLayers, device_of
from atoll.forecast.models import shipped_models
from atoll.forecast.shapes import ModelShape

FREE = Constants()
ROWS = 256
LAYER_S, RATE, FLOPS, STEP_S, BITS = 50e-6, 10e9, 2e12, 0.4e-3, 4.5
PLAIN = ModelShape("plain", 5, hidden=768, heads=12, kv_heads=4, head_dim=64, ffn=2048, vocab=32)
BARE = ModelShape("bare", 18, hidden=64, heads=2, kv_heads=1, head_dim=32, ffn=64, vocab=32)


def of_shape(name: str) -> ModelShape:
    return shipped_models().shapes.find(name)


def times(*layer_s: tuple[int, float], overhead_s: float = STEP_S) -> Measured:
    windows = tuple(WindowTime(rows, seconds) for rows, seconds in layer_s)
    return Measured(ModelId("a" * 64), "b1", "processor", 1, 1, windows, overhead_s, (), 0.0)


def layer_bytes(shape: ModelShape, bits: float = BITS) -> float:
    heads = shape.head_params * (1 if shape.tied else 2)
    return (shape.counted_params - heads) / shape.layers * bits / 8


def timed(
    shape: ModelShape, *, bits: float = BITS, more: float = 1.0, unpacking: float = 0.0
) -> TimedLayer:
    """As a machine of just these figures would be timed, whose rate is that of `BITS`."""
    unknown = TimedLayer(shape, layer_bytes(shape, bits), times((1, 0.0), (ROWS, 0.0)))
    rate = RATE / (1 - unpacking + unpacking * BITS / bits)
    one_s = more * LAYER_S + unknown.read_bytes / rate
    many_s = one_s + (ROWS - 1) * unknown.row_flops / FLOPS
    return TimedLayer(shape, unknown.weight_bytes, times((1, one_s), (ROWS, many_s)))


def bare() -> TimedLayer:
    unknown = TimedLayer(BARE, layer_bytes(BARE, 8.5), times((1, 0.0)))
    one_s = LAYER_S + unknown.read_bytes / RATE
    return TimedLayer(BARE, unknown.weight_bytes, times((1, one_s)))


def found(layer: TimedLayer, *, unpacking: float = 0.0, other_bits: float = 16.0) -> Device:
    other = timed(PLAIN, bits=other_bits, unpacking=unpacking)
    layers = TimedLayers(layer, bare(), other)
    return device_of("reef", "cpu", 8e9, layers, constants=FREE, source="atoll probe, today")


@pytest.mark.parametrize("name", ["Llama-2-7B", "SmolLM2-135M", "Llama-3.1-70B"])
def test_a_machine_comes_out_as_it_went_in(name: str) -> None:
    device = found(timed(of_shape(name)))
    assert device.bandwidth == pytest.approx(RATE)
    assert device.flops == {"fp16": pytest.approx(FLOPS)}
    assert device.timing is not None
    assert device.timing.layer_s == pytest.approx(LAYER_S)
    assert device.timing.hop_s == pytest.approx(STEP_S + NODE_S)
    assert device.timing.bits == pytest.approx(BITS)
    assert device.timing.unpacking == pytest.approx(0, abs=1e-9)
    assert (device.name, device.kind, device.memory) == ("reef", "cpu", 8e9)
    assert device.source == "atoll probe, today"


def test_the_model_that_was_timed_is_forecast_as_it_was_timed() -> None:
    shape = of_shape("Llama-2-7B")
    layer = timed(shape)
    device = found(layer)
    run = DecodeRun(shape, device, BITS, "cpu", context=ROWS)
    head_s = shape.head_params * BITS / 8 / RATE
    one, many = (time.seconds for time in layer.measured.layer_s)
    assert token_s(run, FREE) - head_s == pytest.approx(shape.layers * one)
    # With the head, and nearer to the beginning.
    assert prompt_s(run, ROWS, FREE) == pytest.approx(shape.layers * (many - one), rel=0.05)


@pytest.mark.parametrize("unpacking", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("bits", "other_bits"), [(BITS, 16.0), (16.0, 4.5)])
def test_what_weights_take_whatever_their_bits(
    unpacking: float, bits: float, other_bits: float
) -> None:
    shape = of_shape("Llama-2-7B")
    layer = timed(shape, bits=bits, unpacking=unpacking)
    device = found(layer, unpacking=unpacking, other_bits=other_bits)
    for packed in (bits, 8.5, other_bits):
        wanted = timed(shape, bits=packed, unpacking=unpacking).one_s
        run = DecodeRun(shape, device, packed, "cpu", context=ROWS)
        head_s = shape.head_params * packed / 8 / RATE
        head_s *= 1 - unpacking + unpacking * BITS / packed
        assert token_s(run, FREE) - head_s == pytest.approx(shape.layers * wanted, rel=0.01)


def test_other_layers_that_cannot_be_seen_tell_nothing() -> None:
    layer, bare_s = timed(of_shape("Llama-2-7B")), bare().one_s
    lost = TimedLayer(PLAIN, layer_bytes(PLAIN, 16.0), times((1, bare_s)))
    device = device_of(
        *("reef", "gpu", 8e9, TimedLayers(layer, bare(), lost)), constants=FREE, source="x"
    )
    assert device.timing is not None
    assert device.timing.unpacking == 0


def test_layers_of_experts_take_more_besides_their_weights() -> None:
    shape = of_shape("Qwen3-30B-A3B")
    device = found(timed(shape, more=EXPERT_LAYERS.value))
    assert device.bandwidth == pytest.approx(RATE)
    # Of a token's weights only those of the experts that it goes to are read.
    assert timed(shape).read_bytes < layer_bytes(shape) / 5


def test_a_second_row_that_costs_nothing_is_no_endless_speed() -> None:
    layer = timed(of_shape("Llama-2-7B"))
    one_s = layer.measured.layer_s[0].seconds
    flat = TimedLayer(layer.shape, layer.weight_bytes, times((1, one_s), (ROWS, one_s)))
    assert found(flat).flops["fp16"] == pytest.approx(ROWS * flat.row_flops / one_s)


@pytest.mark.parametrize("share", [0.5, 1.0, 1.1])
def test_layers_that_are_no_slower_than_bare_ones_tell_nothing(share: float) -> None:
    bare_s = bare().measured.layer_s[0].seconds
    layer = timed(of_shape("SmolLM2-135M"))
    measured = times((1, share * bare_s), (ROWS, 1.0))
    with pytest.raises(BadRequest, match="how fast weights are read is not to be seen") as caught:
        found(TimedLayer(layer.shape, layer.weight_bytes, measured))
    assert "a larger model" in caught.value.hint


def test_shapes_of_windows_count_with_them() -> None:
    shape = of_shape("Llama-2-7B")
    narrow = msgspec.structs.replace(shape, window=ROWS // 2)
    assert timed(narrow).read_bytes < timed(shape).read_bytes
