from __future__ import annotations

import random

from atoll.sim.scenario import make_scenario


def test_a_seed_decides_everything() -> None:
    assert make_scenario(random.Random(3)) == make_scenario(random.Random(3))
    assert make_scenario(random.Random(3)) != make_scenario(random.Random(4))


def test_hops_agree_on_their_credits() -> None:
    for seed in range(100):
        scenario = make_scenario(random.Random(seed))
        stages, gateway = scenario.chain.stages, scenario.coordinator
        may_send = [gateway.credits, *(stage.downstream_credits for stage in stages)]
        given = [*(stage.credits for stage in stages), gateway.return_credits]
        assert may_send == given


def test_the_stages_tile_the_middle() -> None:
    for seed in range(100):
        scenario = make_scenario(random.Random(seed))
        cuts = scenario.chain.cuts
        assert list(cuts) == sorted(set(cuts))
        assert 0 < cuts[0] <= cuts[-1] < scenario.n_layers
        assert len(cuts) == len(scenario.chain.stages) + 1
