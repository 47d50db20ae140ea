"""The ring's numbers as people read them."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console
from tests.client.conftest import STATUS

from atoll.cli.tables import (
    exact_lines,
    guess_line,
    lap_line,
    layer_range,
    markdown_table,
    memory_table,
    parked_line,
    plan_lines,
    plan_table,
    rate_lines,
    ring_lines,
    stage_table,
    time_table,
    wire_line,
)
from atoll.client.measure import Server
from atoll.client.rates import Rate
from atoll.gateway.status import MemoryStatus
from atoll.plan.report import PlanReport, StageReport


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
        STATUS, ready=False, reason="waiting for 2 nodes", nodes_missing=2, rings=(), ends=()
    )
    text = "\n".join(ring_lines(down))
    assert "not ready: waiting for 2 nodes" in text
    assert "nodes still to join: 2" in text
    assert "gateway holds" not in text


def test_a_row_for_each_stage() -> None:
    text = _text(stage_table(STATUS.rings[0].stages))
    for part in ("reef", "1-28", "127.0.0.1:9", "50.0", "90.0", "seccomp"):
        assert part in text
    text = _text(time_table(STATUS.rings[0].stages))
    for part in ("reef", "1.25", "0.06", "0.25", "0.12", "12", "30"):
        assert part in text


def test_a_row_for_each_node_that_only_lends_memory() -> None:
    node = MemoryStatus("[b]sh\x1belf", "ab" * 32, "[::1]:5", "quic", 8 << 30, 3 << 20, 17)
    text = _text(memory_table((node,)))
    for part in ("[b]sh\ufffdelf", "memory", "[::1]:5 (quic)", "8192.0", "3.0", "17"):
        assert part in text


def test_a_narrow_terminal_shows_every_number() -> None:
    for table in (stage_table(STATUS.rings[0].stages), time_table(STATUS.rings[0].stages)):
        assert "\u2026" not in _text(table, width=80)


def test_names_are_shown_as_they_are_but_harmless() -> None:
    sly = msgspec.structs.replace(STATUS.rings[0].stages[0], name="[red]x\x1b[2J", ready=False)
    text = _text(stage_table((sly,)))
    assert "[red]x\ufffd[2J" in text
    assert "loading" in text
    fetching = msgspec.structs.replace(sly, fetched_bytes=3, fetch_bytes=4)
    assert "75 % here" in _text(stage_table((fetching,)))


def test_what_was_foretold_beside_what_was_measured() -> None:
    stage = StageReport("reef", 1, 29, 1.5, 0.25, 50 << 20, 900 << 20)
    plan = PlanReport(
        *(1, 2048, 512, 3.75, 266.0, 80.0, 1.9, 0.1),
        stages=(stage,),
        left_out=("rock", "sand"),
        reason="reef limits the ring",
        more_of="reef",
        more_gain=1.5,
        gap=0.25,
    )
    text = _text(plan_table(plan, STATUS.rings[0].stages))
    for part in ("reef", "1-28", "0.25", "1.50", "1.69", "50.0", "900.0", "gateway", "1.90"):
        assert part in text
    assert "measured" not in _text(plan_table(plan))
    lines = "\n".join(plan_lines(plan, STATUS.rings[0].lap))
    for part in (
        "3.8 ms a token for a lone stream; 266.0 tokens/s for one stream",
        "measured: 4.0 ms a token (median of 9)",
        "reef limits the ring",
        "without a part, as the ring is faster so: rock, sand",
        "one more like reef: 1.50 times as fast",
        "may be up to 25% faster",
    ):
        assert part in lines
    alone = msgspec.structs.replace(plan, more_gain=1.0, gap=0.0, left_out=())
    assert "would bring nothing" in "\n".join(plan_lines(alone))


def test_a_token_adds_up() -> None:
    assert STATUS.rings[0].lap is not None
    assert lap_line(STATUS.rings[0].lap).startswith(
        "a token takes 4.0 ms (median of 9): stages 2.0"
    )


def test_guesses() -> None:
    ring = msgspec.structs.replace(STATUS.rings[0], guessed=200, guessed_right=150)
    assert guess_line(ring) == "guessed tokens: 200 checked, 75% of them right"


def test_parked_conversations() -> None:
    ring = msgspec.structs.replace(STATUS.rings[0], parked=7, parked_bytes=30 * 1024**2)
    assert parked_line(ring) == "parked conversations: 7, of which the gateway keeps 30.0 MiB"


def test_how_rows_travel() -> None:
    ring = msgspec.structs.replace(STATUS.rings[0], wire="i8b32\x1b[31m")
    assert (
        wire_line(ring)
        == "hidden states travel as i8b32\N{REPLACEMENT CHARACTER}[31m, in exact answers as f32"
    )


def test_exact_answers() -> None:
    ring = STATUS.rings[0]
    assert exact_lines(ring) == []
    singly = msgspec.structs.replace(ring.stages[0], row_by_row=True)
    told = msgspec.structs.replace(ring, stages=(singly,), exact_problem="b\x1b[31m is not a")
    assert exact_lines(told) == [
        "exact answers take longer, a row at a time on reef",
        "exact answers may differ from before: b\N{REPLACEMENT CHARACTER}[31m is not a",
    ]
    told = msgspec.structs.replace(ring, stages=(singly,), ends_row_by_row=True)
    [line] = exact_lines(told)
    assert line.endswith("a row at a time on the gateway, reef")


READ = Rate("pp512", "pp", 512, 0, 1, 3, 250.0, 1.25, (250.0,), 2048.0, None, None)
SAID = Rate("tg128 @ d512", "tg", 128, 512, 1, 2, 12.345, 0.0, (12.345,), 1.0, 9.876, 123.456)


def test_rates_of_a_ring() -> None:
    server = Server("reef", "0.1.0", "llama", "Q4_1", 30, 3, 2048, 8, 0)
    assert rate_lines(server, (READ, SAID), "0.2.0") == [
        "| model | quantisation | nodes |         test |           t/s | first token ms |"
        " token ms p50 | token ms p99 |",
        "| ----- | ------------ | ----: | -----------: | ------------: | -------------: |"
        " -----------: | -----------: |",
        "| reef  | Q4_1         |     3 |        pp512 | 250.00 ± 1.25 |         2048.0 |"
        "              |              |",
        "| reef  | Q4_1         |     3 | tg128 @ d512 |  12.35 ± 0.00 |            1.0 |"
        "         9.88 |       123.46 |",
        "",
        "llama, 30 layers, context 2048; mean ± standard deviation of 2 to 3 rounds;"
        " atoll 0.1.0, measured by 0.2.0",
    ]


def test_rates_of_another_server() -> None:
    lines = rate_lines(Server("org/shell"), (READ,), "0.2.0")
    assert "quantisation" not in lines[0]
    assert lines[2].startswith("| org/shell | pp512 |")
    assert lines[-1] == "mean ± standard deviation of 3 rounds; measured by atoll 0.2.0"
    once = rate_lines(
        Server("/models/shell.gguf"), (msgspec.structs.replace(READ, rounds=1),), "0.2.0"
    )
    assert "of 1 round;" in once[-1]
    assert once[2].startswith("| shell.gguf |")


def test_a_strangers_words_stay_in_their_cell() -> None:
    assert markdown_table(["a", "b"], [["x|y\n\x1b[2J", "1"]], 1) == [
        "| a         |   b |",
        "| --------- | --: |",
        "| x\\|y \ufffd[2J |   1 |",
    ]
