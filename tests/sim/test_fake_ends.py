from __future__ import annotations

import pytest

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId, Slot
from atoll.ring.coordinator_messages import (
    CloseEnds,
    EndsItem,
    HeadDone,
    HeadItem,
    OpenEnds,
    RunEnds,
    TailDone,
    TailItem,
)
from atoll.ring.messages import ItemFailed
from atoll.ring.parking_messages import LoadEnds, ParkEnds
from atoll.sim.fake_ends import FakeEnds
from atoll.sim.fake_model import FakeShard, ModelMisuse, pack

REQUEST = GenerateRequest((1, 2), 4, ignore_eos=True)


def head(session: int = 1) -> HeadItem:
    return HeadItem(SessionId(session), Slot(session), 0, (1, 2), False, "f16s")


def tail(session: int = 1, *, rows: int = 2, last: bool = False) -> TailItem:
    payload = pack([9] * rows)
    return TailItem(
        SessionId(session), Slot(session), 0, rows, payload, False, "f16s", True, not last, last
    )


def never() -> bool:
    return False


@pytest.fixture
def ends() -> FakeEnds:
    fake = FakeEnds(FakeShard(0, 1), FakeShard(1, 2))
    for session in (1, 2):
        fake.open(OpenEnds(SessionId(session), Slot(session), REQUEST))
    return fake


def test_head_and_tail(ends: FakeEnds) -> None:
    (entered,) = ends.run(RunEnds((head(),)), never)
    assert isinstance(entered, HeadDone)
    (chained,) = ends.run(RunEnds((tail(),)), never)
    assert isinstance(chained, TailDone)
    assert chained.payload is not None
    (ended,) = ends.run(RunEnds((tail(2, last=True),)), never)
    assert isinstance(ended, TailDone)
    assert (ended.sampled and ended.sampled.finish, ended.payload) == ("length", None)
    assert ends.run(RunEnds((head(),)), lambda: True) == (ItemFailed("injected"),)


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ((head(), head()), "twice"),
        ((head(), tail(2)), "mixed"),
        ((tail(), tail(2, rows=1)), "several kinds"),
        ((head(3),), "not open"),
    ],
)
def test_misuse(ends: FakeEnds, items: tuple[EndsItem, ...], problem: str) -> None:
    with pytest.raises(ModelMisuse, match=problem):
        ends.run(RunEnds(items), never)


def test_open_and_close(ends: FakeEnds) -> None:
    with pytest.raises(ModelMisuse, match="opened twice"):
        ends.open(OpenEnds(SessionId(9), Slot(1), REQUEST))
    with pytest.raises(ModelMisuse, match="not open"):
        ends.close(CloseEnds(SessionId(9), Slot(1)))
    for session in (1, 2):
        ends.close(CloseEnds(SessionId(session), Slot(session)))
    assert ends.slots_held == 0


def test_parcels_of_both_ends(ends: FakeEnds) -> None:
    one, two = SessionId(1), SessionId(2)
    ends.run(RunEnds((head(),)), never)
    ends.run(RunEnds((tail(),)), never)
    with pytest.raises(ModelMisuse, match="while it is open"):
        ends.park(ParkEnds(one, Slot(1), 2), never)
    ends.close(CloseEnds(one, Slot(1), keep=True))
    ends.park(ParkEnds(one, Slot(1), 2), never)
    assert ends.load(LoadEnds(two, Slot(2), one, 2), never)
    assert not ends.load(LoadEnds(two, Slot(2), one, 2), lambda: True)
    assert not ends.load(LoadEnds(two, Slot(2), SessionId(7), 2), never)
    with pytest.raises(ModelMisuse, match="not open for session"):
        ends.load(LoadEnds(one, Slot(2), one, 2), never)
    with pytest.raises(ModelMisuse, match="holds no 2 tokens"):
        ends.park(ParkEnds(one, Slot(1), 2), never)
