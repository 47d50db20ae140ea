"""The ring's numbers as people read them."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console
from tests.client.conftest import STATUS

from atoll.cli.tables import lap_line, layer_range, ring_lines, stage_table, time_table


def _text(table: object, width: int = 200) -> str:
    out = io.StringIO()
    Console(file=out, width=width, markup=False).print(table)
    return out.getvalue()


@pytest.mark.parametrize(("first", "last", "shown"), [(0, 1, "0"), (1, 10, "1-9")])
def test_layers(first: int, last: int, shown: str) -> None:
    assert layer_range(first, last) == shown


def test_what_is_served() -> None:
    text = "\n".join(ring_lines(STATUS))
    for part in (
        "tide",
        "llama",
        "Q4_1",
        "30 layers",
        "ready",
        "layers 0, 29 in 200.0 MiB on processor",
        "reef on CUDA0 (Great GPU)",
    ):
        assert part in text


def test_why_it_is_not() -> None:
    down = msgspec.structs.replace(
        STATUS, ready=False, reason="waiting for 2 nodes", nodes_missing=2, stages=(), ends=()
    )
    text = "\n".join(ring_lines(down))
    assert "not ready: waiting for 2 nodes" in text
    assert "nodes still to join: 2" in text
    assert "gateway holds" not in text


def test_a_row_for_each_stage() -> None:
    text = _text(stage_table(STATUS.stages))
    for part in ("reef", "1-28", "127.0.0.1:9", "50.0", "90.0", "seccomp"):
        assert part in text
    text = _text(time_table(STATUS.stages))
    for part in ("reef", "1.25", "0.06", "0.25", "0.12", "12", "30"):
        assert part in text


def test_a_narrow_terminal_shows_every_number() -> None:
    for table in (stage_table(STATUS.stages), time_table(STATUS.stages)):
        assert "\u2026" not in _text(table, width=80)


def test_names_are_shown_as_they_are_but_harmless() -> None:
    sly = msgspec.structs.replace(STATUS.stages[0], name="[red]x\x1b[2J", ready=False)
    text = _text(stage_table((sly,)))
    assert "[red]x\ufffd[2J" in text
    assert "loading" in text
    fetching = msgspec.structs.replace(sly, fetched_bytes=3, fetch_bytes=4)
    assert "75 % here" in _text(stage_table((fetching,)))


def test_a_token_adds_up() -> None:
    assert STATUS.lap is not None
    assert lap_line(STATUS.lap).startswith("a token takes 4.0 ms (median of 9): stages 2.0")
