from __future__ import annotations

import random

import pytest

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Window
from atoll.ring.messages import Refuse
from atoll.ring.stage import Stage
from atoll.ring.stage_messages import BatchDone, RunBatch, StageConfig, WindowArrived
from atoll.sim.hostile import forge

EPOCH = Epoch(1, 3)


@pytest.mark.parametrize("held", [True, False])
def test_every_forgery_is_refused(held: bool) -> None:
    for seed in range(300):
        stage = Stage(StageConfig(n_slots=4, context=32, rows_max=8), EPOCH)
        seen = Window(SessionId(1), Slot(2), EPOCH, 0, 0, 3, "f16s")
        stage.handle(WindowArrived(seen, b""))
        stage.handle(BatchDone((b"",)))
        window = forge(random.Random(seed), seen, held=held)
        effects = stage.handle(WindowArrived(window, b""))
        assert any(isinstance(effect, Refuse) for effect in effects), window
        assert not any(isinstance(effect, RunBatch) for effect in effects), window
        assert stage.holders() == {2: 1}
