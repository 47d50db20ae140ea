"""Where the time of a token goes: samples of the last decode steps."""

from __future__ import annotations

import time
from collections import deque

LAPS_KEPT = 4096
RECENT = 64


class Laps:
    """Where the time of a token goes: samples of the last decode steps, seconds.

    `overhead_s` is what a step took in gateway, nodes, links and socket pairs,
    outside every engine process; `stages_s` inside the stage processes; `ends_s`
    inside the ends' engine and `sampling_s` in the rest of the ends process.
    """

    def __init__(self) -> None:
        self.overhead_s: deque[float] = deque(maxlen=LAPS_KEPT)
        self.ends_s: deque[float] = deque(maxlen=LAPS_KEPT)
        self.stages_s: deque[float] = deque(maxlen=LAPS_KEPT)
        self.sampling_s: deque[float] = deque(maxlen=LAPS_KEPT)
        self.ends_call_s: deque[float] = deque(maxlen=LAPS_KEPT)
        self._noted_s = float("-inf")

    @property
    def age_s(self) -> float:
        """Seconds since the last sample; infinite before the first."""
        return time.monotonic() - self._noted_s

    def quick_s(self) -> float | None:
        """A step's time where little stood in its way: of the last ones, a tenth were quicker.

        Steps that met other streams' windows took longer. None before the first.
        """
        n = min(len(self.overhead_s), RECENT)
        if not n:
            return None
        parts = (self.overhead_s, self.stages_s, self.ends_s, self.sampling_s)
        laps = sorted(sum(part[-i] for part in parts) for i in range(1, n + 1))
        return laps[n // 10]

    def note(
        self,
        *,
        lap_s: float,
        stages_s: float,
        ends_s: float,
        sampling_s: float,
        ends_call_s: float,
    ) -> None:
        """Add a step that took `lap_s` from one window's leaving to the next one's."""
        self._noted_s = time.monotonic()
        self.overhead_s.append(lap_s - stages_s - ends_s - sampling_s)
        self.stages_s.append(stages_s)
        self.ends_s.append(ends_s)
        self.sampling_s.append(sampling_s)
        self.ends_call_s.append(ends_call_s)
