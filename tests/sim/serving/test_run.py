"""Whole runs: all is answered once, machines leave and come, the same seed gives the same."""

from __future__ import annotations

from array import array

import pytest
from tests.sim.serving.paces import ring, server

from atoll.sim.serving.arrivals import Arrivals, arrive
from atoll.sim.serving.pools import FORM_S, Pool
from atoll.sim.serving.replica import Replica
from atoll.sim.serving.requests import Request
from atoll.sim.serving.run import ServingRun
from atoll.sim.serving.tally import Tally, spread_of

WORK = Arrivals(4.0, 300.0, 100, 40, spread=0.5)


def churning(spares: int, *, seed: int) -> ServingRun:
    pool = Pool(
        *("homes", [Replica(ring()) for _ in range(6)], 4, spares),
        leave_rate=1 / 600,
        back_s=60.0,
        takeover_s=4.0,
    )
    return ServingRun([pool], arrive(WORK, seed), seed=seed)


def test_every_request_is_answered_once() -> None:
    requests = list(arrive(WORK, 1))
    run = ServingRun([Pool("two", [Replica(server()), Replica(server())], 1)], requests)
    tally = run.run()
    assert tally.done == len(requests)
    assert tally.tokens == sum(r.answer for r in requests)
    assert tally.prompts == sum(r.prompt for r in requests)
    assert not tally.failed
    assert all(first <= whole for first, whole in zip(tally.first_s, tally.whole_s, strict=True))


def test_waiting_grows_with_the_load_as_queues_do() -> None:
    """One stream at a time, Poisson arrivals, all alike: M/D/1, waits load / 2 / (1 - load)."""
    service_s = 100e-4 + 49 * 0.01
    load = 0.7
    requests = arrive(Arrivals(load / service_s, 40_000 * service_s, 100, 50), 3)
    tally = ServingRun([Pool("one", [Replica(server(streams=1))], 1)], requests).run()
    found = spread_of(tally.whole_s)
    assert found is not None
    assert found.mean / service_s - 1 == pytest.approx(load / 2 / (1 - load), rel=0.07)


@pytest.mark.parametrize("spares", [0, 12])
@pytest.mark.parametrize("seed", range(5))
def test_machines_leave_and_nothing_is_lost(spares: int, seed: int) -> None:
    run = churning(spares, seed=seed)
    tally = run.run()
    requests = list(arrive(WORK, seed))
    assert tally.done == len(requests)
    assert tally.tokens == sum(r.answer for r in requests)
    assert not tally.failed
    events = tally.events
    assert events["machines left"] > 5
    if spares:
        assert events["taken over"] > events["systems lost"]
    else:
        assert events["systems lost"] > 0
    (pool,) = run.pools
    # Whoever left came back, or is still away; nobody is counted twice.
    away = events["machines left"] - events["machines came"]
    assert pool.machines == 24 + spares - away
    assert len(pool.down) == sum(not replica.is_up for replica in pool.replicas)
    assert all(0 <= run.down_s.get(id(r), 0.0) <= run.now_s for r in pool.replicas)


def test_a_machine_that_leaves_pauses_its_ring_alone() -> None:
    pool = Pool("ring", [Replica(ring()), Replica(ring())], 4, 1, takeover_s=5.0)
    run = ServingRun([pool], [Request(0.0, 100, 101), Request(0.1, 100, 101)])
    run._put(3.0, lambda: run._leave(0, run._leaving[0]))
    tally = run.run()
    assert tally.events["taken over"] == 1
    quick_s, slow_s = sorted(tally.whole_s)
    # The prompt and all that was answered are computed again.
    assert slow_s - quick_s == pytest.approx(5.0 + 130 * 1e-4, abs=0.15)


def test_a_system_that_is_lost_is_formed_again() -> None:
    pool = Pool("ring", [Replica(ring())], 4, 0, back_s=1e-3)
    run = ServingRun([pool], [Request(0.0, 100, 101)])
    run._put(3.0, lambda: run._leave(0, run._leaving[0]))
    tally = run.run()
    assert (tally.events["systems lost"], tally.events["systems formed"]) == (1, 1)
    assert tally.whole_s[0] == pytest.approx(10.0 + FORM_S, abs=0.5)
    assert run.down_s[id(pool.replicas[0])] == pytest.approx(FORM_S, abs=0.1)


def test_a_seed_is_a_run() -> None:
    def times(seed: int) -> tuple[array[float], Tally]:
        tally = churning(2, seed=seed).run()
        return tally.ended_s, tally

    assert times(3)[0] == times(3)[0]
    assert times(3)[0] != times(4)[0]


def test_what_no_system_can_hold_fails_alone() -> None:
    pool = Pool("small", [Replica(server(room=150))], 1)
    requests = [Request(0.0, 100, 10), Request(0.1, 200, 10), Request(0.2, 100, 10)]
    tally = ServingRun([pool], requests).run()
    assert tally.done == 2
    assert tally.failed == {"too long for any system": 1}


def test_with_nobody_left_the_rest_fails() -> None:
    pool = Pool("one", [Replica(server())], 2, 0, back_s=1e-3)
    run = ServingRun([pool], [Request(0.0, 100, 1000), Request(3.0, 10, 10)])
    pool.size = 2
    run._put(1.0, lambda: run._dissolve(pool, pool.replicas[0]))
    tally = run.run()
    assert tally.failed == {"no system was up": 2}


def test_prompts_and_answers_apart() -> None:
    first = Pool("prompts", [Replica(server(), hands_over=True)], 1)
    second = Pool("answers", [Replica(server(), takes_over=True) for _ in range(2)], 1)
    requests = [Request(0.0, 100, 11), Request(0.0, 100, 11)]
    run = ServingRun([first, second], requests, cell_s=1e-3)
    tally = run.run()
    assert tally.done == 2
    assert tally.events["caches handed over"] == 2
    # A hundred positions at a thousandth of a second each, and the steps of one of them.
    assert tally.token_s[0] * 10 == pytest.approx(0.1 + 10 * 0.01, abs=0.012)


def test_how_far_it_is_is_told() -> None:
    heard: list[int] = []
    requests = arrive(Arrivals(100.0, 250.0, 10, 2), 1)
    pool = Pool("two", [Replica(server(streams=100))], 1)
    ServingRun([pool], requests, heard=lambda _now_s, count: heard.append(count)).run()
    assert heard == [10_000, 20_000]


def test_what_was_handed_over_waits_for_its_own_kind() -> None:
    """Neither kind's systems are up at first; a stream that has its caches is not begun again."""
    first = Pool("prompts", [Replica(server(), hands_over=True)], 1, back_s=1e-3, takeover_s=3.0)
    second = Pool("answers", [Replica(server(), takes_over=True)], 1, back_s=1e-3, takeover_s=9.0)
    run = ServingRun([first, second], [Request(0.0, 100, 11)])
    run._put(0.005, lambda: run._leave(1, run._leaving[1]))
    run._put(0.02, lambda: run._leave(0, run._leaving[0]))
    tally = run.run()
    assert (tally.done, tally.events["systems formed"]) == (1, 2)
    assert tally.first_s[0] == pytest.approx(0.01, abs=0.002)
    assert tally.whole_s[0] == pytest.approx(9.0 + 10 * 0.01, abs=0.05)


def test_who_can_never_end_is_given_up() -> None:
    """A prompt takes 50 s, and machines stay for one on average."""
    pool = Pool("one", [Replica(server())], 1, leave_rate=1.0, back_s=0.1, takeover_s=0.1)
    tally = ServingRun([pool], [Request(0.0, 500_000, 5)]).run()
    assert tally.failed == {"lost its system too often": 1}


def test_a_run_ends_a_day_after_the_last_request() -> None:
    """Of four machines one leaves every second, and each time the ring pauses for four."""
    pool = Pool("ring", [Replica(ring())], 4, 4, leave_rate=0.25, back_s=1e-3, takeover_s=4.0)
    tally = ServingRun([pool], [Request(0.0, 100, 50_000)]).run()
    assert tally.failed == {"not done within a day": 1}
    assert tally.events["taken over"] > 1000
