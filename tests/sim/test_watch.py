from __future__ import annotations

import random

import pytest

from atoll.domain.generation import GenerateRequest, Sampled
from atoll.domain.ids import Epoch, SessionId
from atoll.ring.coordinator import Coordinator
from atoll.ring.coordinator_messages import (
    Admitted,
    CancelSession,
    CoordinatorEffect,
    Emit,
    Failed,
    Finished,
    Rejected,
    RingUp,
    SendCancel,
    Submit,
    Usage,
)
from atoll.sim.fake_ends import FakeEnds
from atoll.sim.fake_model import FakeShard, expected_output
from atoll.sim.scenario import make_scenario
from atoll.sim.traffic import BrokenInvariant
from atoll.sim.watch import Watch

ONE = SessionId(1)
SCENARIO = make_scenario(random.Random(1))
REQUEST = GenerateRequest((1, 2), 3, ignore_eos=True)
EXPECTED = expected_output(REQUEST, SCENARIO.n_layers, SCENARIO.coordinator.context)


@pytest.fixture
def watch() -> Watch:
    coordinator = Coordinator(SCENARIO.coordinator)
    coordinator.handle(RingUp(Epoch(1, 1)))
    watch = Watch(SCENARIO, coordinator, FakeEnds(FakeShard(0, 1), FakeShard(1, 2)))
    watch.event(Submit(ONE, REQUEST))
    watch.told(Admitted(ONE))
    return watch


def test_a_good_session(watch: Watch) -> None:
    for sampled in EXPECTED:
        watch.told(Emit(ONE, sampled))
    watch.told(Finished(ONE, Usage(2, 3)))
    assert watch.ends == {ONE: "finished"}
    watch.check([])
    watch.check_settled()


@pytest.mark.parametrize(
    ("effect", "problem"),
    [
        (Emit(ONE, Sampled(77, b"")), "token 0"),
        (Emit(ONE, EXPECTED[1]), "token 0"),
        (Emit(SessionId(2), EXPECTED[0]), "not admitted"),
        (Finished(ONE, Usage(2, 0)), "after 0 of 3"),
        (Finished(ONE, Usage(2, 1)), "used"),
        (Failed(ONE, "engine", "", Usage(2, 0)), "failed: engine"),
        (Failed(ONE, "seq", "", Usage(2, 0)), "failed: seq"),
        (Failed(ONE, "cancelled", "", Usage(2, 0)), "failed: cancelled"),
        (Rejected(ONE, "overloaded", ""), "rejected late"),
        (Admitted(ONE), "admitted twice"),
        (SendCancel(ONE, 1), "nobody performs"),
    ],
)
def test_what_is_wrong_is_noticed(watch: Watch, effect: CoordinatorEffect, problem: str) -> None:
    with pytest.raises(BrokenInvariant, match=problem):
        watch.told(effect)


def test_a_session_ends_once(watch: Watch) -> None:
    watch.event(CancelSession(ONE, "gone"))
    failed = Failed(ONE, "cancelled", "gone", Usage(2, 0))
    watch.told(failed)
    with pytest.raises(BrokenInvariant, match="ended twice"):
        watch.told(failed)


def test_a_session_without_an_end(watch: Watch) -> None:
    with pytest.raises(BrokenInvariant, match="never end"):
        watch.check_settled()


def test_excuses(watch: Watch) -> None:
    watch.tainted(ONE)
    watch.told(Failed(ONE, "gap", "", Usage(2, 0)))
