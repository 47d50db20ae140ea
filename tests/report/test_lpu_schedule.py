"""Rows and bars of a chip's schedule: where and when each instruction keeps which unit busy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.lpu.check.sound import CYCLES, TIMING, program, routine

from atoll.domain.errors import BadRequest
from atoll.lpu.check.streams import traffic
from atoll.lpu.program import Flow, Multiply, Read, Routine
from atoll.report.lpu_schedule import SAMPLES_MAX, Bar, Timeline, of_routine, of_steps

EDGE = TIMING.edge
HALVES = Flow("west", "out", 0, 2)


def bars(timeline: Timeline, kind: str) -> list[tuple[str, str, int, int]]:
    rows = timeline.rows
    return [(*rows[b.row][:2], b.begin, b.end) for b in timeline.bars if b.kind == kind]


def test_units_stand_from_edge_to_edge() -> None:
    rows = of_routine(routine(), TIMING, 0).rows
    groups = list(dict.fromkeys(row.group for row in rows))
    west = ["west matrix", "west switch", "west memory", "west streams"]
    east = ["east streams", "east memory", "east switch", "east matrix"]
    assert groups == [*west, "vector unit", *east, "links"]
    memory = [row.name for row in rows if row.group == "west memory"]
    assert (len(memory), memory[0], memory[-1]) == (11, "slices 40-43", "slices 0-3")
    assert sum(row.group == "vector unit" for row in rows) == TIMING.alus


def test_bars_are_at_true_cycles() -> None:
    found = of_routine(routine(), TIMING, 0)
    reads = bars(found, "read")
    assert ("west memory", "slices 0-3", 0 + 1, 20 + 1) in reads
    assert ("west memory", "slices 12-15", 0 + 4, 20 + 4) in reads
    assert ("west memory", "slices 16-19", 21 + 5, 21 + 72 + 6) in reads
    assert len(reads) == 5
    assert bars(found, "load") == [("west matrix", "plane 0", EDGE, 20 + EDGE)]
    assert bars(found, "multiply") == [("west matrix", "plane 0", 21 + EDGE, 21 + 73 + EDGE)]
    assert bars(found, "vector") == [
        ("vector unit", f"ALU {n}", 107 + 2 * n, 107 + 2 * n + 73) for n in range(3)
    ]
    assert bars(found, "write") == [("east memory", "slices 0-3", 114, 114 + 73)]
    sent = 113 + EDGE
    assert bars(found, "send") == [("links", "chip 1", sent, sent + 72 + TIMING.link_cycles)]
    second = of_routine(routine(), TIMING, 1)
    assert bars(second, "receive") == [("links", "chip 0", 761 - EDGE, 761 - EDGE + 73)]
    turned = 763 + TIMING.switch_position
    assert bars(second, "switch") == [("west switch", "switch", turned, turned + 73)]
    assert bars(second, "write") == [("west memory", "slices 4-7", 809 - 2, 809 - 2 + 73)]


def test_halves_keep_both_planes_busy() -> None:
    code = Multiply(at=0, count=3, stride=2, flow=HALVES, plane=0, number="f16")
    found = of_routine(Routine("r", ((code,),), 50), TIMING, 0)
    assert [(b[1], b[3] - b[2]) for b in bars(found, "multiply")] == [
        ("plane 0", 6),
        ("plane 1", 6),
    ]
    assert [bar.share for bar in found.bars] == [1, 1]


def test_shares_of_cycles_and_words() -> None:
    found = of_routine(routine(), TIMING, 0)
    share = {bar.kind: bar.share for bar in found.bars}
    assert share["load"] == share["send"] == 1
    assert share["multiply"] == pytest.approx(4 / 73)
    assert {found.texts[bar.text].split(" ")[1] for bar in found.bars if bar.kind == "load"} == {
        "Load"
    }


def test_steps_follow_each_other_on_a_chip() -> None:
    both = of_steps(program(), TIMING, 0)
    assert (both.begin, both.end) == (0, 2 * CYCLES)
    links = {row.name for row in both.rows if row.group == "links"}
    assert links == {"chip 1", "chip 2"}
    assert ("links", "chip 2", 761 - EDGE, 761 - EDGE + 73) in bars(both, "receive")
    one = of_steps(program(), TIMING, 0, [1])
    assert (one.begin, one.end) == (CYCLES, 2 * CYCLES)
    assert bars(one, "load") == [("west matrix", "plane 0", CYCLES + EDGE, CYCLES + 20 + EDGE)]
    with pytest.raises(BadRequest, match="does nothing"):
        of_steps(program(), TIMING, 1, [0])
    with pytest.raises(BadRequest, match="no chip 2"):
        of_routine(routine(), TIMING, 2)


def test_fills_are_what_the_streams_hold() -> None:
    found = of_steps(program(), TIMING, 0)
    first, second = (traffic(code, TIMING) for code in routine().chips)
    assert first is not None
    assert second is not None
    total = sum(sum(fill.shares) * fill.every for fill in found.fills) * TIMING.streams * EDGE
    # Chip 0 is the second of the first step, and the first of the second.
    assert total == pytest.approx(first.register_cycles + second.register_cycles, rel=0.02)
    assert len(found.fills) == 4
    long = replace(routine(), cycles=10 * SAMPLES_MAX)
    fill = of_routine(long, TIMING, 0).fills[0]
    assert (fill.every, len(fill.shares)) == (10, SAMPLES_MAX)


def test_short_bars_near_each_other_become_one() -> None:
    def at(begin: int, length: int = 2) -> Read:
        return Read(at=begin, count=length, flow=Flow("west", "out", 0, 1), slices=(0,), address=0)

    code = (at(0), at(4), at(20), at(40, 30), at(72, 30))
    found = of_routine(Routine("r", (code,), 200), TIMING, 0)
    assert len(found.bars) == 5

    def spans(cycles: float) -> list[tuple[int, int, int]]:
        return [(b.begin - 1, b.end - 1, b.bursts) for b in found.merged(cycles)]

    whole = [(0, 2, 1), (4, 6, 1), (20, 22, 1), (40, 70, 1), (72, 102, 1)]
    assert spans(1) == whole
    assert spans(3) == [(0, 6, 2), *whole[2:]]
    assert spans(15) == [(0, 22, 3), *whole[3:]]
    assert next(b.share for b in found.merged(15)) == pytest.approx(6 / 22)
    assert spans(1000) == [(0, 102, 5)]


def test_bars_of_other_rows_and_kinds_stay_apart() -> None:
    rows = of_routine(routine(), TIMING, 0).rows
    own = tuple(Bar(row, "read", 0, 1, 1.0, 0) for row in (3, 4))
    other = Bar(4, "write", 0, 1, 1.0, 0)
    timeline = Timeline("t", 1e9, 0, 9, rows, (*own, other), (), ("x",))
    assert timeline.merged(100) == timeline.bars
