"""Who measures when: scripts of events in, effects out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.ids import NodeId
from atoll.members.leases import Ask, Came, Done, Event, Late, Leases, Tick, WakeAt

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


def test_one_node_of_a_host_at_a_time() -> None:
    leases = Leases(10)
    assert leases.handle(Came(A, "x"), now_s=0) == [Ask(A), WakeAt(10)]
    assert leases.handle(Came(B, "x"), now_s=1) == []
    assert leases.handle(Came(C, "y"), now_s=1) == [Ask(C), WakeAt(11)]
    assert leases.handle(Done(A), now_s=2) == [Ask(B), WakeAt(12)]
    assert leases.handle(Done(C), now_s=2) == []
    assert not leases.is_settled
    assert leases.handle(Done(B), now_s=3) == []
    assert leases.is_settled


def test_nobody_is_waited_for_where_nobody_came() -> None:
    assert Leases(10).is_settled


def test_who_takes_too_long_loses_the_lease_and_nobody_waits_for_ever() -> None:
    leases = Leases(10)
    leases.handle(Came(A, "x"), now_s=0)
    leases.handle(Came(B, "x"), now_s=0)
    assert leases.handle(Tick(), now_s=9.9) == []
    assert leases.handle(Tick(), now_s=10) == [Late(A), Ask(B), WakeAt(20)]
    # Its answer comes after all: that ends nobody else's turn.
    assert leases.handle(Done(A), now_s=11) == []
    assert leases.handle(Tick(), now_s=20) == [Late(B)]
    assert leases.is_settled


def test_who_leaves_gives_its_turn_to_the_next() -> None:
    leases = Leases(10)
    leases.handle(Came(A, "x"), now_s=0)
    leases.handle(Came(B, "x"), now_s=0)
    leases.handle(Came(C, "x"), now_s=0)
    assert leases.handle(Done(B), now_s=1) == []
    assert leases.handle(Done(A), now_s=1) == [Ask(C), WakeAt(11)]
    assert leases.handle(Done(C), now_s=2) == []
    assert leases.is_settled


def test_a_stranger_that_is_done_changes_nothing() -> None:
    leases = Leases(10)
    leases.handle(Came(A, "x"), now_s=0)
    assert leases.handle(Done(B), now_s=1) == []
    assert not leases.is_settled


EVENTS = st.lists(
    st.tuples(
        st.one_of(
            st.builds(Done, st.sampled_from([A, B, C])),
            st.just(Tick()),
        ),
        st.floats(0, 5),
    ),
    max_size=40,
)


@given(EVENTS)
def test_never_two_of_a_host_and_an_end_in_any_case(events: list[tuple[Event, float]]) -> None:
    leases, now_s = Leases(10), 0.0
    measuring: set[NodeId] = set()
    asked: list[NodeId] = []
    arriving: list[tuple[Event, float]] = [(Came(node, "x"), 0.0) for node in (A, B, C)]
    for event, after_s in [*arriving, *events, (Tick(), 10), (Tick(), 10), (Tick(), 10)]:
        now_s += after_s
        if isinstance(event, Done):
            measuring.discard(event.node)
        for effect in leases.handle(event, now_s=now_s):
            match effect:
                case Late(node):
                    measuring.discard(node)
                case Ask(node):
                    measuring.add(node)
                    asked.append(node)
            assert len(measuring) <= 1
    assert leases.is_settled
    assert len(asked) == len(set(asked))
