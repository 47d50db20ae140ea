from __future__ import annotations

from atoll.world.loop import SimLoop
from atoll.world.trace import LINES_MAX, Trace


def test_equal_runs_have_equal_digests() -> None:
    loop = SimLoop()
    one, two = Trace(loop), Trace(loop)
    for trace in (one, two):
        trace.note("a line")
        trace.bytes_arrived("here", b"abc")
    assert one.digest == two.digest
    two.fault("crash", "node-1")
    assert one.digest != two.digest
    assert two.faults == {"crash": 1}
    loop.close()


def test_only_the_last_lines_are_kept() -> None:
    loop = SimLoop()
    trace = Trace(loop)
    for i in range(LINES_MAX + 5):
        trace.note(f"line {i}")
    assert len(trace.lines) == LINES_MAX
    assert trace.lines[0].endswith("line 5")
    loop.close()
