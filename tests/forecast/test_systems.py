"""The systems that parts of fleets form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleet_file import parse_fleet, parse_fleet_file
from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import Workload
from atoll.forecast.systems import Systems, systems_of

DEVICES = shipped_devices()
CONSTANTS = shipped_fit().constants
WORK = Workload(shipped_models().shapes.find("Llama-3.1-70B"), 4.85, 500.0, 250.0)


def systems(text: str, work: Workload = WORK) -> list[Systems]:
    if "[[" in text:
        fleet = parse_fleet_file(text, DEVICES, source="f")
    else:
        fleet = parse_fleet(text, DEVICES)
    return [systems_of(part, work, CONSTANTS) for part in fleet.parts]


def test_servers_rings_and_racks() -> None:
    server, rings, rack = systems("8xh100 + 203 x NVIDIA RTX 3060 12GB @ 20 ms + lpu")
    assert (server.count, server.size, server.spares) == (1, 1, 0)
    assert (rings.count, rings.size, rings.spares) == (50, 4, 3)
    assert rack.pace.streams_max == 1


def test_a_desk_machine_is_a_ring_of_one() -> None:
    (macs,) = systems("3 x Apple M3 Ultra (80c)")
    assert (macs.count, macs.size) == (3, 1)
    assert macs.pace.first_s == 0.0


def test_what_a_file_says() -> None:
    (rings,) = systems("[[parts]]\nfleet = '60 x RTX 4090 @ 20 ms'\nmachines = 5\nstreams = 12\n")
    assert (rings.count, rings.size, rings.pace.streams_max) == (12, 5, 12)
    (mixed,) = systems(
        "[[parts]]\nring = ['1 x RTX 4090', '1 x Apple M3 Ultra (80c)']\nway = '1 ms'\ncount = 3"
    )
    assert (mixed.count, mixed.size) == (3, 2)


def test_rings_have_room_for_a_stream() -> None:
    (long,) = systems("6-rented", replace(WORK, bits=4.5, prompt=60_000.0))
    assert (long.count, long.size) == (2, 3)


@pytest.mark.parametrize(
    ("line", "problem", "hint"),
    [
        ("1 x RTX 4090", "cannot hold Llama-3.1-70B: 39.8 GiB", "it takes 2 of them"),
        ("1 x RTX 4090 @ 5 ms", "cannot hold Llama-3.1-70B", "it takes 2 of them"),
        ("8 x Groq LPU v1", "cannot hold", "of them"),
        ("1 x Enfabrica EMFASYS memory node", "computes nothing", "name the machines"),
        ("576 x Groq LPU v1 @ 1 ms", "runs a schedule over all chips", "without a way"),
        (
            "[[parts]]\nring = ['1 x H200 NVL', '2 x GroqNode (8 TSP)']\nway = '1 ms'",
            "runs a schedule over all chips",
            "without a way",
        ),
        (
            "[[parts]]\nring = ['1 x RTX 4090']\nway = '1 ms'",
            "cannot hold Llama-3.1-70B",
            "add machines to the ring",
        ),
        (
            "[[parts]]\nfleet = '4 x RTX 4090 @ 1 ms'\nmachines = 9",
            "no 9 machines for a ring",
            "smaller rings",
        ),
    ],
)
def test_a_fleet_that_cannot_is_refused(line: str, problem: str, hint: str) -> None:
    with pytest.raises(BadRequest, match=problem) as error:
        systems(line)
    assert hint in error.value.hint


@pytest.mark.parametrize("tokens", [0.0, -1.0, float("inf"), float("nan"), 1e9])
def test_requests_that_nobody_sends(tokens: float) -> None:
    for work in (replace(WORK, prompt=tokens), replace(WORK, answer=tokens)):
        with pytest.raises(BadRequest, match="a request has 1 to"):
            systems("8xh100", work)
