"""Fleets beside each other: what holds whatever the constants are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.compare import Forecast, forecast
from atoll.forecast.constants import shipped_fit
from atoll.forecast.devices import Device, Timing, shipped_devices
from atoll.forecast.fleet_file import parse_fleet, parse_fleet_file
from atoll.forecast.models import shipped_models
from atoll.forecast.names import ByName
from atoll.forecast.outlook import Workload
from atoll.forecast.targets import Target

SHAPES = shipped_models().shapes
WORK = Workload(SHAPES.find("Llama-3.1-70B"), 8.0, 500.0, 250.0)
FREE = Target()


def of(line: str, work: Workload = WORK, target: Target = FREE) -> Forecast:
    return forecast(parse_fleet(line, shipped_devices()), work, target, shipped_fit())


def test_a_server() -> None:
    found = of("8xh100")
    assert 0 < found.token_s < found.loaded_s
    assert found.streams > 100
    assert found.tokens_per_s == pytest.approx(found.streams / found.loaded_s)
    assert found.joules_per_token == pytest.approx(found.watts / found.tokens_per_s)
    assert found.usd_per_million == pytest.approx(found.hourly / found.tokens_per_s / 0.0036)
    assert found.fleets == 0


def test_without_a_target_a_server_is_as_at_full_load() -> None:
    """MLPerf v5.1, eight B200, Llama 2 70B offline: 102,909 tokens a second."""
    work = Workload(SHAPES.find("Llama-2-70B"), 4.5, 294.0, 294.45)
    found = of("8xb200", work)
    assert found.tokens_per_s == pytest.approx(102_909, rel=0.3)
    assert found.error == shipped_fit().errors["throughput"]
    assert of("8xb200", work, Target(tpot_s=0.05)).error == shipped_fit().errors["serving_tpot"]


def test_a_target_bounds_the_streams() -> None:
    free = of("8xh100")
    bound = of("8xh100", target=Target(tpot_s=free.loaded_s * 0.7))
    assert 0 < bound.streams < free.streams
    assert bound.loaded_s <= free.loaded_s * 0.7
    none = of("8xh100", target=Target(tpot_s=1e-4))
    assert (none.streams, none.tokens_per_s, none.joules_per_token, none.fleets) == (0, 0, 0, 0)
    assert any("longer than the" in note for note in none.notes)


def test_a_rate_takes_so_many_fleets() -> None:
    one = of("8xh100")
    few = of("8xh100", target=Target(rate=1.0))
    many = of("8xh100", target=Target(rate=1000.0))
    assert few.fleets == 1
    assert (many.fleets - 1) * one.tokens_per_s < 250_000 <= many.fleets * one.tokens_per_s


def test_distance_is_hidden_by_streams_and_by_nothing_else() -> None:
    near, far = of("6 x RTX 4090 @ 1ms", Q4), of("6 x RTX 4090 @ 40ms", Q4)
    assert far.token_s - near.token_s == pytest.approx(2 * 0.039, rel=0.05)
    # Slots are what bounds it then: streams wait on their way, and none computes more.
    assert near.tokens_per_s / 3 < far.tokens_per_s <= near.tokens_per_s
    late = of("6 x RTX 4090 @ 40ms", Q4, Target(tpot_s=0.1))
    assert late.streams == 0


Q4 = replace(WORK, bits=4.5)


def test_lpus_are_fast_for_one() -> None:
    lpu = of("lpu")
    assert lpu.token_s < of("8xh100").token_s
    assert any("not published" in note for note in lpu.notes)
    # So nothing is said of what it does under load.
    assert (lpu.tokens_per_s, lpu.fleets, lpu.joules_per_token) == (0, 0, 0)
    late = of("lpu", target=Target(tpot_s=1e-4))
    assert any("longer than the" in note for note in late.notes)
    assert late.limit is not None
    assert late.limit.bound == "tpot"
    # Nobody has published what bounds such a system.
    assert lpu.limit is None


def test_the_limit_is_what_the_kind_of_fleet_meets() -> None:
    def bound(line: str) -> str:
        found = of(line, Q4).limit
        return found.bound if found else ""

    assert bound("8xh100") == bound("6-rented") == "memory"
    assert bound("4-ultras") == "sessions"
    assert bound("8xb200") == "scheduler"


@pytest.mark.parametrize("tokens", [0.0, -1.0, float("inf"), float("nan"), 1e9])
def test_requests_that_nobody_sends(tokens: float) -> None:
    for work in (replace(WORK, prompt=tokens), replace(WORK, answer=tokens)):
        with pytest.raises(BadRequest, match="a request has 1 to"):
            of("8xh100", work)


def test_machines_that_hold_the_model_alone_form_no_ring() -> None:
    one, four = of("Apple M3 Ultra", Q4), of("4-ultras", Q4)
    assert one.token_s == four.token_s
    assert four.tokens_per_s == pytest.approx(4 * one.tokens_per_s)
    assert "4 machines, each alone" in four.notes


def test_rings_are_of_as_few_machines_as_hold_the_model() -> None:
    homes = of("200 x RTX 3060 @ 20ms", Q4)
    assert any("rings of 4" in note for note in homes.notes)
    few = of("4 x RTX 3060 @ 20ms", Q4)
    assert homes.token_s == few.token_s
    assert homes.tokens_per_s == pytest.approx(50 * few.tokens_per_s)


REEF = Device(
    *("reef", "gpu", 8 * 2.0**30, 20e9, {"fp16": 50e9}),
    source="atoll probe, today",
    timing=Timing(layer_s=30e-6, hop_s=1e-3, bits=4.6),
)


def test_a_measured_machine_works_alone_or_in_a_ring() -> None:
    devices = ByName("device", [REEF])
    small = replace(WORK, shape=SHAPES.find("Llama-3.1-8B"), bits=4.5)

    def found(line: str, work: Workload = small) -> Forecast:
        return forecast(parse_fleet(line, devices), work, FREE, shipped_fit())

    alone, ring = found("reef"), found("12 x reef @ 5ms", replace(small, bits=16.0))
    shape, context = small.shape, 500 + 250 / 2
    caches = shape.layers * shape.kv_values * context * 2
    assert alone.token_s == pytest.approx(
        shape.layers * 30e-6 + (shape.active_params * 4.5 / 8 + caches) / 20e9
    )
    three_s = shape.layers * 30e-6 + (shape.active_params * 2 + caches) / 20e9 + 3 * (5e-3 + 1e-3)
    assert ring.token_s == pytest.approx(three_s, rel=0.01)
    assert "4 rings of 3" in ring.notes
    assert any("was measured; the errors are of machines that were not" in n for n in alone.notes)


def test_what_is_not_published_is_left_out() -> None:
    tpu = of("v6e-8", Q4)
    assert (tpu.watts, tpu.joules_per_token, tpu.hourly, tpu.usd_per_million) == (0, 0, 0, 0)
    assert any("the power of Google TPU v6e" in note for note in tpu.notes)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1 x RTX 4090", "cannot hold Llama-3.1-70B"),
        ("100 x Groq LPU v1", "it takes 340 of them"),
        ("1 x Enfabrica EMFASYS memory node", "computes nothing"),
    ],
)
def test_what_cannot_be(line: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        of(line, Q4 if "Enfabrica" in line else WORK)
    assert problem in str(caught.value)


def test_parts_together() -> None:
    mix = of("8xh100 + 4-ultras + 6-rented", Q4)
    one, macs, cards = (of(line, Q4) for line in ("8xh100", "4-ultras", "6-rented"))
    assert mix.tokens_per_s == pytest.approx(sum(f.tokens_per_s for f in (one, macs, cards)))
    assert mix.streams == one.streams + macs.streams + cards.streams
    assert mix.watts == pytest.approx(one.watts + macs.watts + cards.watts)
    assert (mix.token_s, mix.first_s) == (one.token_s, one.first_s)
    assert (mix.error, mix.alone_error) == (one.error, one.alone_error)
    assert mix.limit is not None
    assert one.limit is not None
    assert mix.limit.figure == f"8 x NVIDIA H100 SXM: {one.limit.figure}"
    # What an hour of an Ultra costs is not known, so neither is the whole.
    assert mix.hourly == 0.0
    assert of("8xh100 + 6-rented", Q4).hourly == pytest.approx(one.hourly + cards.hourly)


def test_several_servers() -> None:
    text = "[[parts]]\nfleet = '8 x H100 SXM'\ncount = 3"
    fleet = parse_fleet_file(text, shipped_devices(), source="f")
    three, one = forecast(fleet, Q4, FREE, shipped_fit()), of("8xh100", Q4)
    assert three.tokens_per_s == pytest.approx(3 * one.tokens_per_s)
    assert three.watts == pytest.approx(3 * one.watts)
    assert three.hourly == pytest.approx(3 * one.hourly)
    assert three.token_s == one.token_s


def test_parts_of_three_roles_are_simulated_instead() -> None:
    text = (
        "[[parts]]\nfleet = '8 x H100 SXM'\nrole = 'prefill'\n"
        "[[parts]]\nfleet = '8 x H100 SXM'\nrole = 'decode'\n"
        "[[parts]]\nfleet = '8 x H100 SXM'"
    )
    fleet = parse_fleet_file(text, shipped_devices(), source="f")
    with pytest.raises(BadRequest, match="not compared") as error:
        forecast(fleet, Q4, FREE, shipped_fit())
    assert "atoll simulate" in error.value.hint


def test_a_rack_in_a_mix_answers_a_stream_alone() -> None:
    mix = of("lpu + 8xh100")
    assert mix.token_s == of("lpu").token_s
    assert mix.tokens_per_s == of("8xh100").tokens_per_s
    assert mix.knows_streams
    assert not of("lpu").knows_streams
