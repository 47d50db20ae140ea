"""One reader under made bytes: `python -m bench.fuzz_worker READER --inputs N`.

A process of its own, so that what it leaves behind, or its death, harms no other run.
It prints one line of JSON. Guided by atheris where that is installed and asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Self

CPU_S_MAX = 1.0
"""Of processor time; an input is cut off between half of it and all of it."""
SPACE_BYTES = 512 << 20
"""What the process may take beyond what it has after its start; what takes more fails."""
GROWTH_BYTES, GROWTH_PER_BYTE = 1 << 20, 256
"""Most that an input may have allocated at once: what readers take for any, and for each byte."""
TRACE_EVERY = 64
CRASHES_MAX = 20
INPUT_BYTES_MAX = 4096
SOURCE = str(Path(__file__).resolve().parent.parent / "src")


class TooSlow(BaseException):
    """An input took too much processor time; no reader catches it."""


class Judge:
    """Gives inputs to a reader, and notes those that break it; inside its block."""

    def __init__(self, target: Any, inputs: int) -> None:
        self._target = target
        self._left = inputs
        self._is_reading = False
        self._at_tick = -1
        self.inputs = 0
        self.refused = 0
        self.crashes: dict[str, dict[str, Any]] = {}
        self.n_crashes = 0
        self._began_s = time.monotonic()

    def __enter__(self) -> Self:
        """Have the time of inputs looked at: twice in the most that one may take."""
        signal.signal(signal.SIGVTALRM, self._tick)
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S_MAX / 2, CPU_S_MAX / 2)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, signal.SIG_IGN)

    def _tick(self, _signal: int, _frame: FrameType | None) -> None:
        """One timer for all inputs: to set it for each would take longer than most of them."""
        if self._is_reading and self._at_tick == self.inputs:
            raise TooSlow
        self._at_tick = self.inputs

    @property
    def is_done(self) -> bool:
        """Whether all inputs were tried."""
        return self._left <= 0

    def take(self, data: bytes) -> None:
        """Try one input."""
        self.inputs += 1
        self._left -= 1
        traced = self.inputs % TRACE_EVERY == 0
        if traced:
            tracemalloc.start()
        try:
            self._is_reading = True
            try:
                self._target.read(data)
            finally:
                self._is_reading = False
        except self._target.known:
            self.refused += 1
        except TooSlow as error:
            self._note(f"more than {CPU_S_MAX / 2:g} s", data, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            self._note(type(error).__name__, data, error)
        if traced:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            if peak > GROWTH_BYTES + GROWTH_PER_BYTE * len(data):
                self._note(f"{peak} bytes", data, None)

    def _note(self, what: str, data: bytes, error: BaseException | None) -> None:
        self.n_crashes += 1
        places = traceback.extract_tb(error.__traceback__) if error else []
        ours = [p for p in places if p.filename.startswith(SOURCE)] or list(places)
        place = f"{ours[-1].filename}:{ours[-1].lineno}" if ours else "somewhere"
        key = f"{what} at {place}"
        if key not in self.crashes and len(self.crashes) < CRASHES_MAX:
            self.crashes[key] = {"what": f"{key}: {error}"[:400], "input": data.hex()[:8000]}

    def report(self) -> str:
        """The figures as JSON."""
        return json.dumps(
            {
                "inputs": self.inputs,
                "refused": self.refused,
                "crashes": self.n_crashes,
                "shown": list(self.crashes.values()),
                "seconds": round(time.monotonic() - self._began_s, 1),
            }
        )


def _bound_memory() -> None:
    """Have what takes far too much memory fail instead of the machine."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        size = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + SPACE_BYTES, size + SPACE_BYTES))


def plain(judge: Judge, target: Any, seed: int) -> None:
    """Without guidance: all inputs are made from the seed."""
    rng = Random(seed)
    for data in target.seeds:
        judge.take(data)
    while not judge.is_done:
        judge.take(target.input(rng))


def guided(
    atheris: Any, judge: Judge, target: Any, seed: int, folder: Path, close: Callable[[], None]
) -> None:
    """Where inputs that reach something new are kept and changed further; does not return."""
    for number, data in enumerate(target.seeds):
        (folder / f"seed-{number}").write_bytes(data)

    def take(data: bytes) -> None:
        if judge.is_done:
            close()
            print(judge.report(), flush=True)
            os._exit(0)
        judge.take(data)

    def mutate(data: bytes, bytes_max: int, number: int) -> bytes:
        rng = Random(number)
        if rng.random() < 0.5:
            return bytes(target.input(rng)[:bytes_max])
        return bytes(atheris.Mutate(data, bytes_max))

    flags = [f"-seed={seed % (1 << 31) or 1}", f"-max_len={INPUT_BYTES_MAX}", "-verbosity=0"]
    # Time and memory are judged here, not by the library, which would end the run.
    flags += ["-timeout=3600", "-rss_limit_mb=0", "-runs=-1", "-reload=0"]
    atheris.Setup([sys.argv[0], *flags, str(folder)], take, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", metavar="FOLDER", type=Path, help="where inputs are kept")
    asked = parser.parse_args()
    warnings.simplefilter("error")
    atheris = None
    if asked.guided is not None:
        import atheris as guide  # noqa: PLC0415 - not on every system

        atheris = guide
        with atheris.instrument_imports(include=["atoll"]):
            from bench import fuzz_targets  # noqa: PLC0415
    else:
        from bench import fuzz_targets  # noqa: PLC0415 - earlier it would not be counted
    target = fuzz_targets.targets()[asked.reader]
    _bound_memory()
    with Judge(target, asked.inputs) as judge:
        if atheris is not None:
            guided(atheris, judge, target, asked.seed, asked.guided, fuzz_targets.close)
        plain(judge, target, asked.seed)
    fuzz_targets.close()
    print(judge.report(), flush=True)


if __name__ == "__main__":
    main()
