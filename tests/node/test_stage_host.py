"""A stage's process, shard and links, from the plan to the end."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from tests.support.children import is_running, new_children
from tests.support.hand_gateway import HandGateway
from tests.support.rings import wait_until

from atoll.domain.control import StageFailed
from atoll.domain.ids import Epoch
from atoll.node import stage_host

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]


def stage_of(_hand: HandGateway) -> psutil.Process:
    [child] = new_children()
    return child


@pytest.mark.parametrize(
    ("how", "word"), [(signal.SIGABRT, "abort"), (signal.SIGKILL, "killed"), (signal.SIGSEGV, "11")]
)
async def test_a_stage_process_that_dies_is_reported_with_its_cause(
    formed: HandGateway, how: signal.Signals, word: str
) -> None:
    await formed.computed(1, 0, 0, 0)
    stage = stage_of(formed)
    os.kill(stage.pid, how)
    failed = await formed.heard.next_message(StageFailed)
    assert failed.epoch == formed.epoch
    assert "stage process was killed by signal" in failed.problem
    assert word in failed.problem
    # Both neighbours notice, and the node lives on for the next plan.
    await formed.up_heard.wait_ended()
    await formed.down_heard.wait_ended()
    assert not is_running(stage.pid)
    formed.epoch = Epoch(1, 2)
    await formed.form()
    await formed.computed(2, 0, 0, 0)
    assert stage_of(formed).pid != stage.pid


async def test_one_failure_is_reported_once(formed: HandGateway) -> None:
    await formed.computed(1, 0, 0, 0)
    os.kill(stage_of(formed).pid, signal.SIGKILL)
    await formed.heard.next_message(StageFailed)
    await wait_until(lambda: not new_children())
    formed.epoch = Epoch(1, 2)
    await formed.form()
    left = [formed.heard.messages.get_nowait() for _ in range(formed.heard.messages.qsize())]
    assert not [message for message, _ in left if isinstance(message, StageFailed)]


async def test_a_stage_that_dies_while_it_waits_for_neighbours(hand: HandGateway) -> None:
    hand.announce(hand.plan(gateway_port=1))
    await wait_until(new_children, what="the stage process")
    os.kill(stage_of(hand).pid, signal.SIGKILL)
    failed = await hand.heard.next_message(StageFailed)
    assert "stage process" in failed.problem


async def test_neighbours_that_never_come(
    hand: HandGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_host, "LINK_S", 0.5)
    hand.announce(hand.plan(gateway_port=1))
    failed = await hand.heard.next_message(StageFailed)
    assert "were not linked within 0.5 s" in failed.problem
    assert "nobody listens" in failed.problem
    assert not new_children()
