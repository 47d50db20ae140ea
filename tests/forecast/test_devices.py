"""The catalogue: what the package carries, and files of users."""

from __future__ import annotations

import msgspec
import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.devices import Timing, parse_devices, shipped_devices
from atoll.forecast.names import ByName

MINE = """
[[devices]]
name = "Reef card"
aliases = ["RTX 3090"]
kind = "gpu"
memory = "48 GiB"
bandwidth = "1.2 TB/s"
fp16 = "100 TFLOPS"
fp8 = "200 TFLOPS"
power = "250 W"
source = "weighed by hand"
"""


def test_every_device_says_where_its_figures_are_from() -> None:
    devices = list(shipped_devices())
    assert len(devices) >= 80
    assert {device.kind for device in devices} >= {"lpu", "gpu", "tpu", "soc", "memory-pool"}
    for device in devices:
        assert device.source, device.name


@pytest.mark.parametrize(
    ("name", "memory", "bandwidth"),
    [
        ("H100 SXM", 80 * 1024**3, 3.35e12),
        ("TPU v6e", 32 * 1024**3, 1.638e12),
        ("RTX 3090", 24 * 1024**3, 936e9),
        ("Apple M3 Ultra", 512 * 1024**3, 800e9),
    ],
)
def test_figures(name: str, memory: float, bandwidth: float) -> None:
    device = shipped_devices().find(name)
    assert (device.memory, device.bandwidth) == (memory, bandwidth)


def test_what_is_known_of_a_processors_cores() -> None:
    processors = [device for device in shipped_devices() if device.kind == "cpu"]
    assert all(device.cores and device.flops["int8"] for device in processors)
    # No core has made more than 64 products in a cycle, or fewer than 8, at 1.5 to 6 GHz.
    each = [device.flops["int8"] / 2 / device.cores for device in processors]
    assert 8 * 1.5e9 <= min(each) <= max(each) <= 64 * 6e9


def test_users_add_theirs() -> None:
    mine = parse_devices(MINE, source="mine.toml")
    both = ByName("device", [*shipped_devices(), *mine])
    # The user's word counts.
    assert both.find("rtx 3090").name == "Reef card"
    assert both.find("RTX 4090").name == "NVIDIA RTX 4090"


def test_what_was_measured() -> None:
    timing = 'timing = { layer = "110 us", hop = "0.9 ms", bits = 5 }\n'
    [device] = parse_devices(MINE + timing, source="mine.toml")
    assert device.timing is not None
    seconds = (device.timing.layer_s, device.timing.hop_s)
    assert seconds == pytest.approx((110e-6, 0.9e-3))
    assert device.timing.bits == 5
    # A layer that takes nothing besides its bytes.
    [device] = parse_devices(MINE + "timing = { bits = 4.5 }", source="mine.toml")
    assert device.timing == Timing(0.0, 0.0, 4.5)
    assert all(known.timing is None for known in shipped_devices())


def test_what_several_of_are_machines_of_a_ring() -> None:
    known = shipped_devices()
    assert known.find("Apple M3 Ultra").is_desk
    assert known.find("Raspberry Pi 5").is_desk
    card = known.find("RTX 3090")
    assert not card.is_desk
    assert msgspec.structs.replace(card, timing=Timing(0.0, 0.0, 4.5)).is_desk


@pytest.mark.parametrize(
    ("timing", "problem"),
    [
        ('{ layer = "110", bits = 4.5 }', "Reef card: '110' has no unit"),
        ('{ layer = "110 us" }', "required field `bits`"),
        ("{ bits = 0 }", "Reef card: a weight of 0 bits"),
        ("{ bits = nan }", "Reef card: a weight of nan bits"),
        ("{ bits = 4.5, unpacking = 1.5 }", "mine.toml cannot be read"),
        ("{ bits = 4.5, steps = 3 }", "unknown field `steps`"),
    ],
)
def test_measurements_that_are_none(timing: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_devices(f"{MINE}timing = {timing}", source="mine.toml")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("bits", "flops"), [(4.5, 200e12), (8.0, 200e12), (8.5, 200e12), (16.0, 100e12)]
)
def test_what_it_computes_with(bits: float, flops: float) -> None:
    assert parse_devices(MINE, source="x").find("Reef card").best_flops(bits) == flops


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"48 GiB"', '"48"', "Reef card: '48' has no unit"),
        ('"48 GiB"', "48", "mine.toml cannot be read"),
        ('"1.2 TB/s"', '"1.2 TB"', "'TB' is no unit of bandwidth"),
        ('"250 W"', '"250000 MW"', "no machine has a power of 250000 MW"),
        ('kind = "gpu"', 'kind = "fish"', "mine.toml cannot be read"),
        ("fp16", "fp17", "unknown field `fp17`"),
        ('source = "weighed by hand"', "", "required field `source`"),
        ("[[devices]]", "[[devices", "mine.toml cannot be read"),
        ("aliases =", "cores = -1\naliases =", "mine.toml cannot be read"),
    ],
)
def test_files_that_are_none(old: str, new: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_devices(MINE.replace(old, new), source="mine.toml")
    assert problem in str(caught.value)


def test_an_unknown_device() -> None:
    with pytest.raises(BadRequest) as caught:
        shipped_devices().find("H100 SMX")
    assert "H100 SXM" in caught.value.hint
