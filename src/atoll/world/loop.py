"""A loop of virtual time: asyncio's own, but its clock jumps to whatever is due next.

Callbacks run in the order that asyncio promises. What chance decides is when things
arrive, not the order of what is ready at once: that would find faults that cannot be.
Work for threads is done at once, in the loop.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

from atoll.sim.traffic import BrokenInvariant

T = TypeVar("T")

TURNS_MAX = 200_000
"""A run with more turns of the loop does not settle."""


CANCELLED_MAX = 32
"""Timers that were cancelled may wait for their time, up to so many or half of all."""


class SimTask(asyncio.Task[Any]):
    """A task with a number for a hash: sets of tasks have the same order in every run."""

    def __init__(self, coro: Any, *, loop: SimLoop, context: Context | None = None) -> None:
        self._number = loop.number()
        super().__init__(coro, loop=loop, context=context)

    def __hash__(self) -> int:
        return self._number


def _make_task(
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
    context: Context | None = None,
) -> asyncio.Task[T]:
    assert isinstance(loop, SimLoop)
    return SimTask(coro, loop=loop, context=context)


class SimLoop(asyncio.BaseEventLoop):
    """One loop for all machines of a run."""

    # What asyncio's own loop keeps, in all versions there are.
    _ready: deque[Any]
    _scheduled: list[Any]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._numbers = 0
        self._cancelled = 0
        self.turns = 0
        self.problems: list[str] = []
        """What nobody caught: mistakes in callbacks and tasks."""
        self.set_task_factory(_make_task)
        self.set_exception_handler(self._note)

    def number(self) -> int:
        """The next of a row."""
        self._numbers += 1
        return self._numbers

    def time(self) -> float:
        """Virtual seconds since the run began."""
        return self._now_s

    def _run_once(self) -> None:
        """One turn of the loop: nothing comes from outside, the clock jumps to the next timer.

        As in asyncio's own, callbacks that are added in a turn run in the next one.

        Raises:
            BrokenInvariant: There is no timer, or the run does not settle.
        """
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        self.turns += 1
        if self.turns > TURNS_MAX:
            raise BrokenInvariant("the run does not settle")
        if not ready and not self._stopping:
            if not scheduled:
                raise BrokenInvariant("somebody waits for what never happens")
            self._now_s = max(self._now_s, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now_s:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _timer_handle_cancelled(self, _timer: asyncio.TimerHandle) -> None:
        """Most timers are cancelled long before their time; they would fill the heap."""
        self._cancelled += 1
        if self._cancelled > max(CANCELLED_MAX, len(self._scheduled) // 2):
            self._cancelled = 0
            self._scheduled[:] = [timer for timer in self._scheduled if not timer._cancelled]
            heapq.heapify(self._scheduled)

    def run_in_executor(  # type: ignore[override]  # as asyncio.to_thread calls it
        self, _executor: None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do the work now; its answer comes with the next turn."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - as an executor hands it on
            done.set_exception(error)
        return done

    def timers(self) -> list[str]:
        """Timers that are still to fire, for who looks for leaks."""
        return [repr(timer) for timer in self._scheduled if not timer.cancelled()]

    def _write_to_self(self) -> None:
        """Nobody is to be woken: there is one thread."""

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        said = f": {type(error).__name__}: {error}" if error is not None else ""
        self.problems.append(f"{context.get('message')}{said}")
