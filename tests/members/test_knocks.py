"""The file of those who wait, as commands use it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from atoll.domain.ids import NodeId
from atoll.members.knocks import KNOCKS_FILE, Decision, Knocks, NobodyWaits, WaitingNode
from atoll.members.register import BadInvitation
from atoll.net.records import RecordFault

ANNA = WaitingNode(NodeId("a1" * 32), "anna-pc", "10.0.0.1", "012 345", 1)
BOB = WaitingNode(NodeId("b2" * 32), "bobs", "10.0.0.2", "678 901", 2)
COPY = WaitingNode(NodeId("c3" * 32), "bobs", "10.0.0.3", "111 111", 3)


@pytest.fixture
def knocks(tmp_path: Path) -> Knocks:
    made = Knocks(tmp_path / KNOCKS_FILE)
    made.publish((ANNA, BOB, COPY))
    return made


def test_nobody_leaves_no_file(tmp_path: Path) -> None:
    knocks = Knocks(tmp_path / KNOCKS_FILE)
    knocks.publish(())
    assert knocks.waiting() == ()
    assert list(tmp_path.iterdir()) == []


def test_who_waits_is_found_by_name_or_key(knocks: Knocks, tmp_path: Path) -> None:
    assert knocks.find("anna-pc") == ANNA
    assert knocks.find("b2") == BOB
    assert stat.S_IMODE((tmp_path / KNOCKS_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(("wanted", "count"), [("", "no"), ("zoe", "no"), ("bobs", "2")])
def test_none_or_several(knocks: Knocks, wanted: str, count: str) -> None:
    with pytest.raises(NobodyWaits, match=f"^{count} nodes that wait are named"):
        knocks.find(wanted)


def test_a_word_on_one_is_kept_while_it_waits(knocks: Knocks) -> None:
    knocks.approve(ANNA, "012345", "anna")
    knocks.deny(BOB)
    assert knocks.decisions() == (
        Decision(ANNA.node, ANNA.code, approved=True, owner="anna"),
        Decision(BOB.node, BOB.code, approved=False),
    )
    knocks.deny(ANNA)
    assert [d.approved for d in knocks.decisions()] == [False, False]
    knocks.publish((BOB,))
    assert [d.node for d in knocks.decisions()] == [BOB.node]
    with pytest.raises(NobodyWaits, match="waits no longer"):
        knocks.approve(ANNA, ANNA.code)


def test_another_code_is_not_approved(knocks: Knocks) -> None:
    for code in ("", "012346", "678 901"):
        with pytest.raises(NobodyWaits, match="codes differ: a1a1a1a1a1a1 should show 012 345"):
            knocks.approve(ANNA, code)
    assert knocks.decisions() == ()


def test_an_owner_that_cannot_be_listed(knocks: Knocks) -> None:
    with pytest.raises(BadInvitation, match="printable"):
        knocks.approve(ANNA, ANNA.code, "")


def test_a_damaged_file_is_told(knocks: Knocks, tmp_path: Path) -> None:
    (tmp_path / KNOCKS_FILE).write_text("{")
    with pytest.raises(RecordFault, match=r"list of waiting nodes .* cannot be read"):
        knocks.waiting()
