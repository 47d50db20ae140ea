"""The systems that fleets form."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleet_file import parse_mixed_file, parse_mixed_line
from atoll.forecast.models import shipped_models
from atoll.sim.serving.pools import Pool
from atoll.sim.serving.systems import Served, pools_of

DEVICES = shipped_devices()
CONSTANTS = shipped_fit().constants
SERVED = Served(shipped_models().shapes.find("Llama-3.1-70B"), 4.85, (500.0, 250.0))


def pools(text: str) -> list[Pool]:
    if "[[" in text:
        return pools_of(parse_mixed_file(text, DEVICES, source="f"), SERVED, CONSTANTS)
    return pools_of(parse_mixed_line(text, DEVICES), SERVED, CONSTANTS)


def test_servers_rings_and_racks() -> None:
    server, rings, rack = pools("8xh100 + 203 x NVIDIA RTX 3060 12GB @ 20 ms + lpu")
    assert (len(server.replicas), server.size, server.spares) == (1, 1, 0)
    assert (len(rings.replicas), rings.size, rings.spares) == (50, 4, 3)
    assert rings.replicas[0].pace is rings.replicas[9].pace
    assert rings.watts == pytest.approx(rings.replicas[0].pace.watts[1] / 4)
    assert rack.replicas[0].pace.streams_max == 1


def test_a_desk_machine_is_a_ring_of_one() -> None:
    (macs,) = pools("3 x Apple M3 Ultra (80c)")
    assert (len(macs.replicas), macs.size) == (3, 1)
    assert macs.replicas[0].pace.first_s == 0.0


def test_what_a_file_says() -> None:
    (rings,) = pools(
        "[[parts]]\nfleet = '60 x RTX 4090 @ 20 ms'\nmachines = 5\nleave = 0.36\n"
        "back = '60 s'\ntakeover = '2 s'\nstreams = 12"
    )
    assert (len(rings.replicas), rings.size) == (12, 5)
    assert rings.leave_rate == pytest.approx(1e-4)
    assert (rings.back_s, rings.takeover_s) == (60.0, 2.0)
    assert rings.replicas[0].pace.streams_max == 12


def test_roles() -> None:
    first, second = pools(
        "[[parts]]\nfleet = '8 x H100 SXM'\nrole = 'prefill'\n"
        "[[parts]]\nfleet = '8 x H100 SXM'\ncount = 2\nrole = 'decode'"
    )
    assert first.replicas[0].hands_over
    assert [r.takes_over for r in second.replicas] == [True, True]


@pytest.mark.parametrize(
    ("line", "problem", "hint"),
    [
        ("1 x RTX 4090", "cannot hold Llama-3.1-70B: 39.8 GiB", "it takes 2 of them"),
        ("1 x RTX 4090 @ 5 ms", "cannot hold Llama-3.1-70B", "it takes 2 of them"),
        ("8 x Groq LPU v1", "cannot hold", "of them"),
        ("1 x Enfabrica EMFASYS memory node", "computes nothing", "name the machines"),
    ],
)
def test_a_fleet_that_cannot_is_refused(line: str, problem: str, hint: str) -> None:
    with pytest.raises(BadRequest, match=problem) as error:
        pools(line)
    assert hint in error.value.hint
