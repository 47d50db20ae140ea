"""Whether what was measured still fits what the stage does.

Pure. The stage counts its steps and what they took; the measurement predicts
it. Where the two part, the measurement is to be made again.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.domain.measure import Measured, step_s

STEPS_MIN = 50
"""Steps over which a mean is worth comparing."""
RATIO_MIN, RATIO_MAX = 0.67, 1.5


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage has done since it was loaded: steps, their rows, and their seconds.

    `call_s` is from handing a batch to the stage process until its answer, as the
    measurement has it.
    """

    steps: int
    rows: int
    call_s: float


class Drift:
    """One stage's work beside its prediction.

    Args:
        measured: What was measured for its model on its device.
        layers: Layers of the stage.
    """

    def __init__(self, measured: Measured, layers: int) -> None:
        self._measured = measured
        self._layers = layers
        self._before = Work(0, 0, 0.0)

    def note(self, work: Work) -> float | None:
        """Compare the steps since the last comparison with their prediction.

        Args:
            work: The stage's counters, which only rise.

        Returns:
            Seconds taken over seconds predicted; None while there are too few steps.
        """
        steps = work.steps - self._before.steps
        if steps < STEPS_MIN:
            return None
        mean_rows = (work.rows - self._before.rows) / steps
        taken_s = (work.call_s - self._before.call_s) / steps
        self._before = work
        measured = self._measured
        return taken_s / step_s(measured.layer_s, measured.overhead_s, self._layers, mean_rows)


def is_stale(ratio: float) -> bool:
    """Whether a ratio of `Drift.note` says that the measurement holds no more."""
    return not RATIO_MIN <= ratio <= RATIO_MAX
