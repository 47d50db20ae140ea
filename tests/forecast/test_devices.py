"""The catalogue: what the package carries, and files of users."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.devices import parse_devices, shipped_devices
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


def test_users_add_theirs() -> None:
    mine = parse_devices(MINE, source="mine.toml")
    both = ByName("device", [*shipped_devices(), *mine])
    # The user's word counts.
    assert both.find("rtx 3090").name == "Reef card"
    assert both.find("RTX 4090").name == "NVIDIA RTX 4090"


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
