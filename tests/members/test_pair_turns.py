"""Who times when: scripts of what happens, and the turns that are given."""

from __future__ import annotations

from atoll.domain.ids import NodeId
from atoll.members.pair_turns import PairTurns
from atoll.members.pairs import Place

A, B, C, D = (NodeId(letter * 64) for letter in "abcd")
PLACES = [Place(node, f"host {node[0]}") for node in (A, B, C, D)]


def turns(*places: Place) -> PairTurns:
    made = PairTurns(lease_s=10, again_s=100)
    made.want(places or PLACES)
    return made


def given(machine: PairTurns, now_s: float, busy: str = "", alone: bool = False) -> list[str]:
    pairs = machine.next(now_s, busy={f"host {letter}" for letter in busy}, alone=alone)
    return [one[0] + other[0] for one, other in pairs]


def test_no_host_has_two_turns_at_a_time() -> None:
    machine = turns()
    assert given(machine, 0) == ["ab", "cd"]
    assert given(machine, 1) == []
    machine.ended((A, B), 2)
    assert given(machine, 2) == []
    machine.ended((C, D), 3)
    assert given(machine, 3) == ["ac", "bd"]
    machine.ended((A, C), 4)
    machine.ended((B, D), 4)
    assert given(machine, 4) == ["ad", "bc"]
    settled = [machine.is_settled]
    machine.ended((A, D), 5)
    machine.ended((B, C), 5)
    settled.append(machine.is_settled)
    assert settled == [False, True]
    assert given(machine, 6) == []


def test_no_site_has_two_turns_at_a_time() -> None:
    shared = [Place(p.node, p.host, "a router" if p.node in (A, C) else "") for p in PLACES]
    # The two behind the router are the first: nobody else gets it meanwhile.
    machine = turns(*shared)
    assert given(machine, 0) == ["ac", "bd"]
    machine.ended((A, C), 1)
    machine.ended((B, D), 1)
    assert given(machine, 1) == ["ab"]


def test_those_that_measure_themselves_are_left_alone() -> None:
    machine = turns()
    assert given(machine, 0, busy="a") == ["bc"]
    machine.ended((B, C), 1)
    assert given(machine, 1, busy="abcd") == []


def test_beside_a_ring_there_is_one_at_a_time() -> None:
    machine = turns()
    assert given(machine, 0, alone=True) == ["ab"]
    assert given(machine, 1, alone=True) == []
    machine.ended((A, B), 2)
    assert given(machine, 2, alone=True) == ["ac"]


def test_who_is_too_slow_loses_its_turn() -> None:
    machine = turns()
    given(machine, 0)
    assert machine.wake_at() == 10
    assert machine.late(9) == []
    assert machine.late(10) == [(A, B), (C, D)]
    # And is not asked again at once.
    assert given(machine, 10) == ["ac", "bd"]


def test_it_is_done_again_after_a_while() -> None:
    machine = turns(PLACES[0], PLACES[1])
    assert given(machine, 0) == ["ab"]
    machine.ended((A, B), 5)
    assert machine.wake_at() == 105
    assert given(machine, 104) == []
    assert machine.is_settled
    assert given(machine, 105) == ["ab"]


def test_of_who_comes_back_nothing_is_remembered() -> None:
    machine = turns(PLACES[0], PLACES[1])
    given(machine, 0)
    machine.ended((A, B), 1)
    machine.left(B)
    assert given(machine, 2) == []
    assert machine.wake_at() is None
    machine.want(PLACES[:2])
    assert not machine.is_settled
    assert given(machine, 3) == ["ab"]
    # Who leaves in its turn gives it back.
    machine.left(A)
    machine.want(PLACES[:3])
    assert given(machine, 4) == ["ab"]
