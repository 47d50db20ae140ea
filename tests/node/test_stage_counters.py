"""What a stage counts: steps, chunks, and what it is sent again."""

from __future__ import annotations

import time

from atoll.domain.ids import SessionId
from atoll.engine.stage_messages import Computed
from atoll.node.stage_counters import Counters

ONE, TWO = SessionId(1), SessionId(2)
DONE = Computed(1, ("",), (8,), engine_s=0.25, busy_s=0.5)


def test_steps_and_chunks_are_counted_apart() -> None:
    counters = Counters()
    counters.began(3, 3)
    assert counters.done(DONE)
    assert (counters.steps, counters.step_rows, counters.chunk_rows) == (1, 3, 0)
    assert (counters.engine_s, counters.busy_s) == (0.25, 0.5)
    counters.began(1, 60)
    time.sleep(0.01)
    assert not counters.done(DONE)
    assert (counters.steps, counters.chunk_rows) == (1, 60)
    assert counters.chunk_s >= 0.01
    assert (counters.windows, counters.rows, counters.batches) == (4, 63, 2)


def test_a_replay_lasts_until_the_last_of_its_sessions_goes_on() -> None:
    counters = Counters()
    counters.replay_came(ONE, 60)
    counters.replay_came(TWO, 10)
    counters.began(1, 60)
    counters.done(DONE)
    # What is sent again is no chunk of a prompt.
    assert counters.chunk_rows == 0
    counters.replay_over(ONE)
    assert counters.replay_s == 0
    time.sleep(0.01)
    counters.replay_over(TWO)
    assert counters.replay_rows == 70
    before_s = counters.replay_s
    assert before_s >= 0.01
    # Others that are over were never sent again.
    counters.replay_over(ONE)
    assert counters.replay_s == before_s


def test_a_new_epoch_waits_for_nothing_sent_before() -> None:
    counters = Counters()
    counters.replay_came(ONE, 60)
    counters.epoch_raised()
    counters.replay_over(ONE)
    assert counters.replay_s == 0
    counters.began(1, 60)
    counters.done(DONE)
    assert counters.chunk_rows == 60
