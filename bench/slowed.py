"""Makes a node's stage process slower: it runs for a share of the time and stands in between.

`python -m bench.slowed PID SHARE` stops and continues the children of node PID in
turns, until the node is gone. A share of processor time (cgroup `cpu.max`) would
not do: a stage that computes 2 ms in 30 ms never uses its share up, so it would be
slow in a measurement that keeps it busy and quick in the ring.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import psutil

PERIOD_S = 0.004
LOOK_S = 0.02
"""How often new children are looked for."""


def slow_down(pid: int, share: float) -> None:
    """Stop and go until the process `pid` is gone."""
    node, children, looked_s = psutil.Process(pid), list[int](), 0.0
    try:
        while True:
            now_s = time.monotonic()
            if now_s - looked_s > LOOK_S:
                children, looked_s = [child.pid for child in node.children()], now_s
            _signal(children, signal.SIGCONT)
            time.sleep(PERIOD_S * share)
            _signal(children, signal.SIGSTOP)
            time.sleep(PERIOD_S * (1 - share))
    except psutil.NoSuchProcess:
        return
    finally:
        _signal(children, signal.SIGCONT)


def _signal(pids: list[int], what: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    slow_down(int(sys.argv[1]), float(sys.argv[2]))
