from __future__ import annotations

import random

from atoll.world.scenario import BEGIN_S, FAULTS, HORIZON_S, make_scenario


def test_a_seed_decides_everything() -> None:
    assert make_scenario(random.Random(3)) == make_scenario(random.Random(3))
    assert make_scenario(random.Random(3)) != make_scenario(random.Random(4))


def test_everything_is_drawn() -> None:
    scenarios = [make_scenario(random.Random(seed)) for seed in range(200)]
    assert {fault.kind for s in scenarios for fault in s.faults} == set(FAULTS)
    assert {s.nodes - s.places for s in scenarios} == {0, 1, 2}
    assert any(not s.faults for s in scenarios)
    for scenario in scenarios:
        assert scenario.n_layers >= scenario.places + 2
        for client in scenario.clients:
            assert len(client.request.prompt) < scenario.context
        for fault in scenario.faults:
            assert BEGIN_S <= fault.at_s <= BEGIN_S + HORIZON_S
            assert fault.machine < scenario.nodes > fault.other
