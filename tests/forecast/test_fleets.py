"""Fleets in a line."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleets import parse_fleet_line

DEVICES = shipped_devices()


@pytest.mark.parametrize(
    ("line", "name", "n", "way_s"),
    [
        ("8 x H100 SXM", "NVIDIA H100 SXM", 8, None),
        ("8xH100 SXM", "NVIDIA H100 SXM", 8, None),
        ("RTX 4090", "NVIDIA RTX 4090", 1, None),
        ("6 x RTX 4090 @ 40ms", "NVIDIA RTX 4090", 6, 0.04),
        ("6 x RTX 4090 @ Home Wi-Fi LAN", "NVIDIA RTX 4090", 6, 0.005),
        ("6 x RTX 4090 @ us-east-1 to eu-west-1", "NVIDIA RTX 4090", 6, 0.0403),
    ],
)
def test_lines(line: str, name: str, n: int, way_s: float | None) -> None:
    fleet = parse_fleet_line(line, DEVICES)
    assert (fleet.device.name, fleet.n) == (name, n)
    assert fleet.way_s == pytest.approx(way_s)
    assert fleet.is_ring == (way_s is not None)
    assert fleet.memory == n * fleet.device.memory


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "describes no fleet"),
        ("8 x", "no device is called '8 x'"),
        ("0 x RTX 4090", "1 to 1000000 devices"),
        ("9999999 x RTX 4090", "1 to 1000000 devices"),
        ("6 x RTX 4090 @ 40", "has no unit"),
        ("6 x RTX 4090 @ 40 GB", "no unit of time"),
        ("6 x RTX 4091", "the nearest name is 'NVIDIA RTX 409"),
    ],
)
def test_what_is_no_fleet(line: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_fleet_line(line, DEVICES)
    assert problem in str(caught.value)
