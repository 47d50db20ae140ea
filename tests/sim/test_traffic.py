from __future__ import annotations

import pytest

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Window
from atoll.ring.stage import Stage
from atoll.ring.stage_messages import BatchItem, StageConfig, WindowArrived
from atoll.sim.fake_model import FakeShard
from atoll.sim.traffic import BrokenInvariant, GatewayCredits, Traffic

EPOCH = Epoch(1, 1)
CONFIG = StageConfig(4, 32, 4, exact_rows_max=2, credits=2, downstream_credits=2, queue_max=2)
FULL = GatewayCredits(may_send=2, given=2, queued=0, agreed=2)


def window(session: int = 1) -> Window:
    return Window(SessionId(session), Slot(session), EPOCH, 0, 0, 1, "f16s", follow=1)


def item(session: int = 1, rows: int = 1, *, keep: int = 0, exact: bool = False) -> BatchItem:
    return BatchItem(SessionId(session), Slot(session), keep, rows, exact, "f32", b"")


def test_credits_are_conserved_on_the_way() -> None:
    traffic, stage = Traffic(), Stage(CONFIG, EPOCH)
    traffic.check_credits([stage], FULL, EPOCH)
    traffic.frame_sent(0, window())
    traffic.check_credits([stage], GatewayCredits(1, 2, 0, 2), EPOCH)
    traffic.frame_arrived(0, window())
    stage.handle(WindowArrived(window(), b""))
    traffic.check_credits([stage], GatewayCredits(1, 2, 0, 2), EPOCH)


@pytest.mark.parametrize(
    "gateway", [GatewayCredits(1, 2, 0, 2), GatewayCredits(2, 1, 0, 2), GatewayCredits(3, 2, 0, 2)]
)
def test_a_lost_or_made_credit_is_noticed(gateway: GatewayCredits) -> None:
    with pytest.raises(BrokenInvariant, match="hop"):
        Traffic().check_credits([Stage(CONFIG, EPOCH)], gateway, EPOCH)


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ((item(1), item(1)), "twice"),
        ((item(1), item(2, 2)), "several kinds"),
        ((item(1), item(2, exact=True)), "several kinds"),
        ((item(1, 3), item(2, 3)), "2 times 3 rows"),
        ((item(1, 3, exact=True),), "3 exact rows"),
        ((item(1, 3, keep=30),), "position 33 of 32"),
    ],
)
def test_bad_batches(items: tuple[BatchItem, ...], problem: str) -> None:
    with pytest.raises(BrokenInvariant, match=problem):
        Traffic().batch(CONFIG, items)


def test_leaks_are_noticed() -> None:
    stage, shard = Stage(CONFIG, EPOCH), FakeShard(0, 1)
    Traffic().check_settled([stage], [shard])
    shard.run(Slot(1), 0, [1])
    with pytest.raises(BrokenInvariant, match="stage 0 holds"):
        Traffic().check_settled([stage], [shard])
    with pytest.raises(BrokenInvariant, match="stays dead"):
        Traffic().check_settled([None], [shard])
