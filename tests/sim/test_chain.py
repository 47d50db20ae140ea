from __future__ import annotations

import random

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Cancel, Release, Window
from atoll.ring.coordinator_messages import SessionRefused
from atoll.ring.messages import Payload
from atoll.ring.stage_messages import EpochRaised, StageConfig
from atoll.sim.chain import Chain
from atoll.sim.fake_model import FakeShard, pack
from atoll.sim.scenario import ChainSpec
from atoll.sim.traffic import Message

EPOCH = Epoch(1, 1)
ONE, SLOT = SessionId(1), Slot(0)


class Recorder:
    """A gateway that writes down what it is told."""

    def __init__(self) -> None:
        self.returned: list[tuple[Message, Payload]] = []
        self.credits = 0
        self.refusals: list[str] = []

    def frame_returned(self, message: Message, payload: Payload) -> None:
        self.returned.append((message, payload))

    def granted(self, frames: int, epoch: Epoch) -> None:
        self.credits += frames

    def refused(self, refused: SessionRefused, epoch: Epoch) -> None:
        self.refusals.append(refused.code)

    def engine_failed(self, session: SessionId) -> None:
        raise AssertionError(session)


def chain() -> tuple[Chain, Recorder]:
    gateway = Recorder()
    spec = ChainSpec((0, 2, 3), (StageConfig(2, 16, 8),) * 2, 0.01, 0.01, 0.0)
    return Chain(spec, gateway, EPOCH, random.Random(1)), gateway


def settle(of: Chain) -> None:
    for happening in of.heap:
        happening()


def test_a_window_and_its_release_go_round() -> None:
    c, gateway = chain()
    window = Window(ONE, SLOT, EPOCH, 0, 0, 2, "f16s")
    release = Release(ONE, SLOT, EPOCH)
    c.send(0, window, pack([5, 6]))
    c.send(0, release)
    settle(c)
    due = pack(FakeShard(0, 3).run(SLOT, 0, [5, 6]))
    assert gateway.returned == [(window, due), (release, b"")]
    assert gateway.credits == 1
    assert [at.shard.slots_held for at in c.nodes] == [0, 0]


def test_a_dead_stage_loses_frames_until_it_is_raised() -> None:
    c, gateway = chain()
    c.kill(1)
    c.send(0, Window(ONE, SLOT, EPOCH, 0, 0, 1, "f16s"), pack([5]))
    settle(c)
    assert gateway.returned == []
    raised = Epoch(1, 2)
    c.raise_epoch(0, EpochRaised(raised))
    c.raise_epoch(1, EpochRaised(raised))
    c.send(0, Window(ONE, SLOT, raised, 0, 0, 1, "f16s"), pack([5]))
    c.send(0, Cancel(ONE, EPOCH, 0))
    settle(c)
    assert len(gateway.returned) == 1
    assert c.refusals == {"epoch": 1}


def test_a_refusal_is_reported() -> None:
    c, gateway = chain()
    c.send(0, Window(ONE, SLOT, EPOCH, 3, 0, 1, "f16s"), pack([5]))
    settle(c)
    assert gateway.refusals == ["seq"]
