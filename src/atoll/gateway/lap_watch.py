"""Times windows on their way round, and splits the steps they end into their parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from atoll.domain.ids import SessionId
from atoll.domain.wire import Window
from atoll.engine.ends_messages import ItemsDone
from atoll.gateway.laps import Laps
from atoll.ring.coordinator_messages import EndsItem, TailItem


class LapWatch:
    """The clocks of one ring.

    Args:
        laps: Takes what a step took.
        clock: Seconds.
    """

    def __init__(self, laps: Laps, clock: Callable[[], float] = time.perf_counter) -> None:
        self._laps = laps
        self._clock = clock
        self._stage_us: dict[SessionId, int] = {}
        self._left_s: dict[SessionId, float] = {}
        self._sent_s: dict[SessionId, dict[int, float]] = {}
        self._called_s = self._answered_s = 0.0
        self._steps: list[tuple[float, float, ItemsDone, float]] = []

    def leaves(self, window: Window) -> None:
        """A window is sent to the first stage."""
        self._sent_s.setdefault(window.session, {})[window.seq] = self._clock()
        if window.rows == 1:
            # From the answer on, so that the coordinator's own time counts.
            self._left_s[window.session] = self._answered_s

    def back(self, window: Window) -> float:
        """A window came from the last stage; how long it was on its way, seconds, 0: not known."""
        self._stage_us[window.session] = window.engine_us
        sent_s = self._sent_s.get(window.session, {}).pop(window.seq, None)
        return self._clock() - sent_s if sent_s is not None else 0.0

    def called(self) -> None:
        """The ends are asked."""
        self._called_s = self._clock()

    def answered(self, items: Sequence[EndsItem], message: ItemsDone) -> None:
        """The ends have answered what was asked of them last."""
        now_s = self._clock()
        call_s, self._answered_s = now_s - self._called_s, now_s
        self._steps = []
        for item in items:
            began_s = self._left_s.pop(item.session, None)
            if not isinstance(item, TailItem):
                continue
            stages_s = self._stage_us.pop(item.session, 0) / 1e6
            if item.sample and item.rows == 1 and began_s is not None:
                self._steps.append((now_s - began_s, stages_s, message, call_s))

    def note(self) -> None:
        """Note the steps that ended with the last answer; once what follows of it is under way."""
        for lap_s, stages_s, message, call_s in self._steps:
            self._laps.note(
                lap_s=lap_s,
                stages_s=stages_s,
                ends_s=message.engine_s,
                sampling_s=message.sampling_s,
                ends_call_s=call_s,
            )
        self._steps = []

    def forget(self, session: SessionId) -> None:
        """A session is over."""
        self._stage_us.pop(session, None)
        self._left_s.pop(session, None)
        self._sent_s.pop(session, None)

    def clear(self) -> None:
        """What was on its way is lost."""
        self._stage_us.clear()
        self._left_s.clear()
        self._sent_s.clear()
