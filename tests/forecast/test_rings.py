"""Rings: which bound they meet first, and how large they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.forecast.constants import shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.drafts import Drafts
from atoll.forecast.fleet_file import parse_fleet, parse_fleet_file
from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import USABLE, Outlook, Workload
from atoll.forecast.power import desk_watts
from atoll.forecast.rings import ring_outlook
from atoll.forecast.systems import systems_of
from atoll.forecast.targets import Target

SHAPES = shipped_models().shapes
LARGE = Workload(SHAPES.find("Llama-3.1-70B"), 4.5, 500.0, 250.0)
SMALL = replace(LARGE, shape=SHAPES.find("Llama-3.1-8B"))
FREE = Target()


def of(line: str, work: Workload, target: Target = FREE) -> Outlook:
    (part,) = parse_fleet(line, shipped_devices()).parts
    systems = systems_of(part, work, shipped_fit().constants)
    return ring_outlook(systems, work, target, shipped_fit())


def figure(outlook: Outlook, bound: str) -> str:
    assert outlook.limit is not None
    assert outlook.limit.bound == bound
    return outlook.limit.figure


def test_memory_of_a_ring() -> None:
    outlook = of("6-rented", LARGE)
    free = 2 * shipped_devices().find("RTX 4090").memory * USABLE - LARGE.weights
    room = int(free / LARGE.cached)
    said = figure(outlook, "memory")
    assert said == f"{free / 2**30:.1f} GiB for caches in each ring, full with {room} streams"
    # Three rings of two.
    assert outlook.streams == 3 * room


def test_memory_of_machines_alone() -> None:
    outlook = of("6-rented", SMALL)
    assert f"in each machine, full with {outlook.streams // 6} streams" in figure(outlook, "memory")


def test_sessions_of_a_stage() -> None:
    outlook = of("4-ultras", LARGE)
    assert outlook.streams == 4 * 256
    assert figure(outlook, "sessions") == "a stage holds 256 sessions"


def test_the_time_per_token() -> None:
    outlook = of("6-rented", SMALL, Target(tpot_s=0.05))
    each = outlook.streams // 6
    assert outlook.loaded_s <= 0.05
    assert f"with {each + 1} streams of a machine, longer than" in figure(outlook, "tpot")
    ring = of("12 x RTX 4090 @ 1ms", LARGE, Target(tpot_s=0.055))
    each = ring.streams // 6
    assert 0 < ring.streams < of("12 x RTX 4090 @ 1ms", LARGE).streams
    assert f"with {each + 1} streams of a ring, longer than" in figure(ring, "tpot")


def test_flights_hide_distance() -> None:
    """Three flights fit a lap of two machines: tokens come as fast as for a stream alone."""
    alone = of("2 x RTX 4090 @ 40ms", LARGE)
    three = of("2 x RTX 4090 @ 40ms", LARGE, Target(tpot_s=alone.token_s * 1.02))
    assert three.streams >= 3
    assert three.loaded_s <= alone.token_s * 1.02


def test_drafts_are_worth_what_they_give() -> None:
    plain, guessing = of("200 x RTX 3060 @ 20 ms", LARGE), of("200-homes", LARGE)
    tokens = Drafts(4, 0.7).tokens
    assert guessing.token_s == pytest.approx(plain.token_s / tokens, rel=0.25)
    assert f"a pass gives {tokens:.2f} tokens" in guessing.notes[0]
    assert guessing.first_s == plain.first_s


def test_unlike_machines_in_a_ring() -> None:
    text = "[[parts]]\nring = ['2 x RTX 4090', '1 x Apple M3 Ultra (80c)']\nway = '5 ms'\ncount = 2"
    (part,) = parse_fleet_file(text, shipped_devices(), source="f").parts
    systems = systems_of(part, LARGE, shipped_fit().constants)
    outlook = ring_outlook(systems, LARGE, FREE, shipped_fit())
    assert outlook.streams > 0
    assert "2 rings of 3" in outlook.notes
    card, mac = shipped_devices().find("RTX 4090"), shipped_devices().find("Apple M3 Ultra (80c)")
    watts = [desk_watts(device, "", shipped_fit().constants) for device in (card, mac)]
    assert outlook.watts == pytest.approx(4 * watts[0] + 2 * watts[1])


@pytest.mark.parametrize(
    ("target", "bound", "asked"),
    [(Target(tpot_s=1e-3), "tpot", "1 ms"), (Target(ttft_s=1e-3), "ttft", "0.001 s")],
)
def test_not_even_one_stream(target: Target, bound: str, asked: str) -> None:
    outlook = of("6-rented", LARGE, target)
    assert outlook.streams == 0
    assert f"for a stream alone, longer than the {asked}" in figure(outlook, bound)
    assert figure(outlook, bound) in outlook.notes


def test_one_stream_where_a_second_one_would_be_late() -> None:
    """Each stream's part of new prompts makes tokens later; a stream alone has none."""
    alone = of("6-rented", SMALL)
    outlook = of("6-rented", SMALL, Target(tpot_s=alone.token_s * 1.0001))
    assert outlook.streams == 6
    assert outlook.loaded_s == outlook.token_s
    assert "with 2 streams of a machine" in figure(outlook, "tpot")


def test_a_ring_has_room_for_a_stream() -> None:
    """Weights alone would take fewer machines."""
    long = replace(LARGE, prompt=60_000.0)
    assert long.cached > 2 * shipped_devices().find("RTX 4090").memory * USABLE - long.weights
    outlook = of("6-rented", long)
    assert "2 rings of 3" in outlook.notes
    assert outlook.streams >= 2
    none = of("2 x RTX 4090 @ 40ms", long)
    assert none.streams == 0
    assert "and those of a stream take" in figure(none, "memory")
    assert figure(none, "memory") in none.notes


def test_errors_are_of_machines_alone_or_of_rings() -> None:
    errors = shipped_fit().errors
    assert of("6-rented", SMALL).error == errors["local"]
    assert of("6-rented", LARGE).error == errors["wide"]
    assert of("6-rented", LARGE).power_error == errors["power_desk"]
