"""Governed chance and clocks: what a process asks of its system, answered by the run.

The product asks `time`, `secrets`, `os` and `psutil` where it runs; here, inside the
block, they answer from the loop's clock and the seed. It holds for the whole process, so
that a simulation has its process for itself.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import psutil

from atoll.world.loop import SimLoop
from atoll.world.machine import wall_clock_offset_s

BEGIN_S = 1_800_000_000.0
"""Seconds since 1970 when a run begins."""
MEMORY = SimpleNamespace(available=64 * 1024**3, total=96 * 1024**3)
RESIDENT_BYTES = 256 * 1024**2


class _Process:
    """What `psutil` tells of a process."""

    def __init__(self, _pid: int | None = None) -> None:
        return

    def memory_info(self) -> SimpleNamespace:
        return SimpleNamespace(rss=RESIDENT_BYTES)


@contextmanager
def governed(loop: SimLoop, rng: random.Random, *, quiet: bool) -> Iterator[None]:
    """Let clocks and chance be the run's inside the block.

    Args:
        loop: Its clock.
        rng: Its chance, of which nothing else is drawn.
        quiet: Whether nothing is logged.
    """
    substitutes: list[tuple[Any, str, Callable[..., Any]]] = [
        (time, "monotonic", loop.time),
        (time, "perf_counter", loop.time),
        (time, "time", lambda: BEGIN_S + loop.time() + wall_clock_offset_s()),
        (secrets, "randbits", rng.getrandbits),
        (secrets, "token_bytes", lambda n=32: rng.randbytes(n)),
        (secrets, "token_hex", lambda n=32: rng.randbytes(n).hex()),
        (secrets, "token_urlsafe", lambda n=32: rng.randbytes(n).hex()),
        (os, "urandom", rng.randbytes),
        (psutil, "virtual_memory", lambda: MEMORY),
        (psutil, "Process", _Process),
    ]
    patches = [patch.object(*substitute) for substitute in substitutes]
    for one in patches:
        one.start()
    if quiet:
        logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        if quiet:
            logging.disable(logging.NOTSET)
        for one in reversed(patches):
            one.stop()
