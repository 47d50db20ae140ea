"""Who knocks without a ticket: let in when both sides agree, and bounded until then."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.support.doors import TERMS, Door, HandKnocker, open_door
from tests.support.hand_node import a_join
from tests.support.rings import wait_until

from atoll.domain.control import (
    Approved,
    ControlMessage,
    Knock,
    KnockAnswer,
    Leave,
    Refusal,
    Reveal,
    Welcome,
)
from atoll.members import waiting_room
from atoll.members.knocks import KNOCKS_FILE, Decision, Knocks, NobodyWaits, WaitingNode
from atoll.members.waiting_room import ATTEMPT_EVERY_S, ATTEMPTS_MAX, WAITING_PER_HOST_MAX
from atoll.net.identity import Identity
from atoll.net.pairing import WAIT_S

pytestmark = pytest.mark.network


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(tmp_path) as opened:
        yield opened


async def refusal(knocker: HandKnocker) -> Refusal:
    """What it is told, after which its link ends."""
    told = await knocker.heard.next_message(Refusal)
    await knocker.heard.wait_ended()
    return told


async def test_both_see_one_code_and_nobody_is_in_before_both_agree(
    door: Door, tmp_path: Path
) -> None:
    knocker, waiting = await door.knocked()
    assert (waiting.name, waiting.host, waiting.confirmed) == ("anna-pc", "127.0.0.1", False)
    assert waiting.code == knocker.code
    assert stat.S_IMODE((tmp_path / KNOCKS_FILE).stat().st_mode) == 0o600
    [line] = [line for line in door.said if knocker.code in line]
    assert f"atoll nodes approve {knocker.key[:12]}" in line

    door.knocks.approve(waiting, knocker.code, "anna")
    door.room.heed()
    assert door.register.nodes() == ()
    assert knocker.heard.messages.empty()

    knocker.confirm()
    assert await knocker.heard.next_message(Approved) == TERMS
    await knocker.heard.wait_ended()
    [node] = door.register.nodes()
    assert (node.node, node.name, node.owner) == (knocker.key, "anna-pc", "anna")
    assert door.knocks.waiting() == ()
    assert door.knocks.decisions() == ()

    again = await door.dial(knocker.identity)
    again.link.send(a_join("", 1234))
    await again.heard.next_message(Welcome)


async def test_the_owner_may_be_first(door: Door) -> None:
    knocker, _ = await door.knocked()
    knocker.confirm()
    waiting = await door.wait_shown(knocker.key, confirmed=True)
    assert door.register.nodes() == ()
    door.knocks.approve(waiting, knocker.code)
    door.room.heed()
    await knocker.heard.next_message(Approved)
    assert [node.owner for node in door.register.nodes()] == ["local"]


async def test_the_operator_declines(door: Door) -> None:
    knocker, waiting = await door.knocked()
    knocker.confirm()
    door.knocks.deny(waiting)
    door.room.heed()
    assert "operator declined" in (await refusal(knocker)).problem
    assert door.register.nodes() == ()
    assert door.knocks.waiting() == ()


async def test_the_owner_declines(door: Door) -> None:
    knocker, waiting = await door.knocked()
    door.knocks.approve(waiting, knocker.code)
    knocker.link.send(Leave("the codes \x1b differ"))
    await door.wait_nobody()
    assert "anna-pc went: the codes ? differ" in door.said
    with pytest.raises(NobodyWaits, match="waits no longer"):
        door.knocks.approve(waiting, knocker.code)
    door.room.heed()
    assert door.register.nodes() == ()


async def test_a_node_that_dies_waits_no_longer(door: Door) -> None:
    knocker, _ = await door.knocked()
    knocker.link.close()
    await door.wait_nobody()


async def test_a_decision_is_for_one_attempt(door: Door, tmp_path: Path) -> None:
    knocker, waiting = await door.knocked()
    knocker.confirm()
    await door.wait_shown(knocker.key, confirmed=True)
    file = tmp_path / KNOCKS_FILE
    content = msgspec.json.decode(file.read_bytes())
    other = Decision(knocker.key, "000 000" if waiting.code != "000 000" else "1", approved=True)
    content["decisions"] = [msgspec.to_builtins(other)]
    file.write_bytes(msgspec.json.encode(content))
    door.room.heed()
    assert door.register.nodes() == ()
    assert not knocker.link.is_closed


async def test_a_nonce_that_was_not_committed_to(door: Door) -> None:
    knocker = await door.dial()
    knocker.knock()
    await knocker.heard.next_message(KnockAnswer)
    knocker.link.send(Reveal(b"x" * 32))
    assert "not the one that it committed itself to" in (await refusal(knocker)).problem
    assert door.knocks.waiting() == ()


@pytest.mark.parametrize(
    "message", [Reveal(b"x" * 32), Knock("again", b"x" * 32), a_join("", 1), KnockAnswer(b"x" * 32)]
)
async def test_what_comes_out_of_turn_ends_the_link(door: Door, message: ControlMessage) -> None:
    knocker, _ = await door.knocked()
    knocker.link.send(message)
    told = await refusal(knocker)
    assert f"may not send a {type(message).__name__}" in told.problem
    await door.wait_nobody()


async def test_a_confirmation_comes_after_the_nonces_and_once(door: Door) -> None:
    early = await door.dial()
    early.knock()
    early.confirm()
    assert "may not send a CodeConfirmed" in (await refusal(early)).problem
    knocker, _ = await door.knocked()
    knocker.confirm()
    knocker.confirm()
    assert "may not send a CodeConfirmed" in (await refusal(knocker)).problem
    stranger = await door.dial()
    stranger.confirm()
    assert "introduce itself first" in (await refusal(stranger)).problem


async def test_attempts_are_rationed(door: Door) -> None:
    for _ in range(ATTEMPTS_MAX):
        knocker = await door.dial()
        knocker.knock()
        await knocker.heard.next_message(KnockAnswer)
        knocker.link.send(Leave("another code, please"))
        await knocker.heard.wait_ended()
    late = await door.dial()
    late.knock()
    told = await refusal(late)
    assert "too many nodes knocked" in told.problem
    assert "ticket" in told.hint
    door.clock[0] += ATTEMPT_EVERY_S
    await door.knocked()
    door.clock[0] += ATTEMPT_EVERY_S / 2
    later = await door.dial()
    later.knock()
    assert "too many nodes knocked" in (await refusal(later)).problem


def test_the_chance_that_the_record_states() -> None:
    assert ATTEMPTS_MAX + WAIT_S / ATTEMPT_EVERY_S == 38


async def test_one_host_cannot_take_all_places(door: Door) -> None:
    for _ in range(WAITING_PER_HOST_MAX):
        await door.knocked()
    late = await door.dial()
    late.knock()
    assert "too many nodes wait" in (await refusal(late)).problem
    assert len(door.knocks.waiting()) == WAITING_PER_HOST_MAX


async def test_one_key_waits_once(door: Door) -> None:
    first, _ = await door.knocked()
    second = await door.dial(first.identity)
    second.knock()
    told = await refusal(second)
    assert "waits already" in told.problem
    assert not first.link.is_closed


async def test_a_nonce_that_does_not_come(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_room, "REVEAL_S", 0.1)
    knocker = await door.dial()
    knocker.knock()
    assert "did not tell its nonce in time" in (await refusal(knocker)).problem
    await door.knocked()


async def test_nobody_waits_for_ever(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_room, "WAIT_S", 0.2)
    knocker, waiting = await door.knocked()
    told = await refusal(knocker)
    assert "nobody let it in within" in told.problem
    assert "atoll join" in told.hint
    await door.wait_nobody()
    with pytest.raises(NobodyWaits):
        door.knocks.approve(waiting, knocker.code)


async def test_a_gateway_that_takes_no_knocks(tmp_path: Path) -> None:
    async with open_door(tmp_path, is_open=False) as door:
        knocker = await door.dial()
        knocker.knock()
        told = await refusal(knocker)
        assert "lets nobody in without a ticket" in told.problem
        assert "atoll invite" in told.hint


async def test_who_was_revoked_need_not_knock(door: Door) -> None:
    identity = Identity.generate()
    door.register.enrol(identity.node_id, "anna-pc", "anna")
    door.register.revoke("anna-pc")
    knocker = await door.dial(identity)
    knocker.knock()
    assert "was revoked" in (await refusal(knocker)).problem


async def test_revoked_while_it_waits(door: Door) -> None:
    identity = Identity.generate()
    door.register.enrol(identity.node_id, "anna-pc", "anna")
    knocker, waiting = await door.knocked("anna-pc", identity)
    door.register.revoke("anna-pc")
    door.knocks.approve(waiting, knocker.code)
    knocker.confirm()
    assert "was revoked" in (await refusal(knocker)).problem


async def test_an_end_of_the_gateway_sends_everybody_away(door: Door) -> None:
    knocker, _ = await door.knocked()
    door.fleet.close()
    assert "shutting down" in (await refusal(knocker)).problem
    assert door.knocks.waiting() == ()


async def test_a_list_left_by_a_killed_gateway_is_cleared(tmp_path: Path) -> None:
    knocks = Knocks(tmp_path / KNOCKS_FILE)
    left = WaitingNode(Identity.generate().node_id, "left", "10.0.0.1", "123 456", 1)
    knocks.publish((left,))
    knocks.approve(left, "123 456")
    async with open_door(tmp_path):
        assert knocks.waiting() == ()
        assert knocks.decisions() == ()


async def test_names_cannot_steer_a_terminal(door: Door) -> None:
    _, waiting = await door.knocked("\x1b[2J\nanna " + "x" * 200)
    assert waiting.name == ("?[2J?anna " + "x" * 200)[:64]
    knocker, nameless = await door.knocked(" ")
    assert nameless.name == f"node {knocker.key[:6]}"


async def test_a_list_that_cannot_be_used(door: Door, tmp_path: Path) -> None:
    (tmp_path / KNOCKS_FILE).mkdir()
    knocker = await door.dial()
    knocker.knock()
    await knocker.reveal()
    await wait_until(
        lambda: any("who waits cannot be shown" in line for line in door.said), what="the problem"
    )
    knocker.confirm()
    door.room.heed()
    assert door.register.nodes() == ()
    (tmp_path / KNOCKS_FILE).rmdir()
