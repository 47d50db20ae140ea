"""Which ways are timed, by where nodes seem to be."""

from __future__ import annotations

from collections import Counter

from atoll.domain.ids import NodeId
from atoll.members.pairs import ALL_MAX, PEERS_MAX, Place, near_pairs, pair_of


def node(number: int) -> NodeId:
    return NodeId(f"{number:064d}")


def fleet(count: int, **changes: str) -> list[Place]:
    return [Place(node(i), f"host-{i}", distance_s=0.001 * i, **changes) for i in range(count)]


def numbers(places: list[Place]) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in near_pairs(places)]


def test_a_pair_has_one_name() -> None:
    assert pair_of(node(2), node(1)) == pair_of(node(1), node(2)) == (node(1), node(2))


def test_in_a_small_fleet_all_do() -> None:
    pairs = near_pairs(fleet(ALL_MAX))
    assert len(set(pairs)) == len(pairs) == ALL_MAX * (ALL_MAX - 1) // 2
    assert all(a < b for a, b in pairs)


def test_those_first_by_which_most_could_be_gained() -> None:
    far = [Place(node(1), "a", "s", 0.001), Place(node(2), "b", "t", 0.05)]
    far += [Place(node(3), "c", "u", 0.04), Place(node(4), "d", "s", 0.002)]
    # Behind one router first, then those that are both far from the gateway.
    assert numbers(far)[:2] == [(1, 4), (2, 3)]


def test_nodes_of_one_host_do_not() -> None:
    places = [Place(node(1), "a"), Place(node(2), "a"), Place(node(3), "b")]
    assert numbers(places) == [(1, 3), (2, 3)]


def test_in_a_large_fleet_those_at_about_the_same_distance() -> None:
    found = numbers(fleet(100))
    degree = Counter(number for pair in found for number in pair)
    assert max(degree.values()) == PEERS_MAX
    assert min(degree.values()) >= PEERS_MAX // 2
    assert all(b - a <= PEERS_MAX for a, b in found)
    assert all((i, i + 1) in found for i in range(99))
    # Of these too those first by which most could be gained.
    assert found[0] == (98, 99)


def test_at_equal_distances_no_part_of_the_fleet_is_cut_off() -> None:
    found = numbers([Place(node(i), f"h{i}", distance_s=0.01) for i in range(40)])
    assert all((i, i + 1) in found for i in range(39))


def test_in_a_large_fleet_those_at_one_site_whatever_their_distance() -> None:
    places = fleet(100)
    for number in (3, 50, 97):
        places[number] = Place(node(number), f"h{number}", "home", 0.001 * number)
    found = numbers(places)
    assert {(3, 50), (3, 97), (50, 97)} <= set(found)


def test_a_large_host_takes_no_places_of_others() -> None:
    places = [Place(node(i), "rack", distance_s=0.001) for i in range(20)]
    places += [Place(node(i), f"h{i}", distance_s=0.002) for i in range(20, 24)]
    found = numbers(places)
    assert all(b >= 20 for _, b in found)
    assert {(20, 21), (21, 22), (22, 23)} <= set(found)
