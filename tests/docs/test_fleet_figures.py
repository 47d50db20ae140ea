"""The page on racks and pools shows what the package forecasts, and says what follows from it."""

from __future__ import annotations

from dataclasses import replace

from docs.fleet_figures import (
    MODELS,
    PAGE,
    PICTURE,
    found,
    page_with_table,
    picture,
    pictured,
    table,
    words_of,
    work_of,
)

from atoll.forecast.compare import forecast
from atoll.forecast.constants import shipped_fit
from atoll.forecast.drafts import Drafts
from atoll.forecast.fleet_file import Fleet, shipped_fleets
from atoll.forecast.targets import Target


def test_the_page_is_current() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_table(page), "run: .venv/bin/python -m docs.fleet_figures"


def test_the_picture_is_current() -> None:
    shown = words_of(PICTURE.read_text("utf-8"))
    assert shown == words_of(picture()), "run: .venv/bin/python -m docs.fleet_figures"
    assert {*shipped_fleets(), f"{1e3 * found('Llama-3.1-70B', '8xh100').token_s:.1f}"} <= set(
        shown
    )


def test_every_fleet_has_a_row_for_every_model() -> None:
    assert len(table().splitlines()) == 2 + len(MODELS) * len(shipped_fleets())


def test_what_the_page_says_follows_from_its_figures() -> None:
    rack, server, rented, homes = (
        found("Llama-3.1-70B", fleet) for fleet in ("lpu", "8xh100", "6-rented", "200-homes")
    )
    assert rack.token_s * 2 < server.token_s < homes.token_s / 10 < rented.token_s / 10
    part = shipped_fleets()["200-homes"].parts[0]
    plain = Fleet("plain", (replace(part, drafts=Drafts()),))
    unguessed = forecast(plain, work_of("Llama-3.1-70B"), Target(), shipped_fit())
    assert unguessed.token_s > 2 * homes.token_s
    assert 1.4 < unguessed.joules_per_token / homes.joules_per_token < 1.7
    assert server.joules_per_token * 10 < min(rented.joules_per_token, homes.joules_per_token)
    small, small_server = found("Llama-3.1-8B", "6-rented"), found("Llama-3.1-8B", "8xh100")
    assert small.usd_per_million < small_server.usd_per_million
    assert 2 < small.joules_per_token / small_server.joules_per_token < 4
    assert "3 rings of 61" in found("DeepSeek-R1", "200-homes").notes


def test_errors_of_servers_and_pools_do_not_meet_and_those_of_pools_do() -> None:
    for chart in pictured():
        by_name = dict(zip(chart.labels, chart.series[0].bars, strict=True))
        servers = [by_name[name].most for name in ("8xh100", "8xb200")]
        pools = [by_name[name].most for name in ("4-ultras", "6-rented", "200-homes")]
        highest = max(span[1] for span in servers if span)
        lowest = [span[0] for span in pools if span]
        assert highest < min(lowest)
        assert max(lowest) < min(span[1] for span in pools if span)
