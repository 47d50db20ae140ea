"""Who was invited, who came, and who may not come again."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from atoll.domain.ids import NodeId
from atoll.members import register as register_module
from atoll.members.register import BadInvitation, NotInvited, Register, check_owner
from atoll.net.records import RecordFault
from atoll.net.ticket import relay_token

ONE, TWO = NodeId("1" * 64), NodeId("2" * 64)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "register.json"


@pytest.fixture
def register(path: Path, clock: Clock) -> Register:
    return Register(path, clock=clock)


def test_an_invitation_is_good_once(register: Register) -> None:
    invitation, secret = register.invite("anna", lifetime_s=60)
    enrolled, used = register.admit(ONE, "annas-pc", secret)
    assert (enrolled.owner, enrolled.name, used) == ("anna", "annas-pc", invitation.id)
    assert register.nodes() == (enrolled,)
    assert register.invitations() == ()
    with pytest.raises(NotInvited, match="used up"):
        register.admit(TWO, "other", secret)


def test_it_may_be_good_for_several(register: Register) -> None:
    _, secret = register.invite("club", uses=2, lifetime_s=60)
    register.admit(ONE, "a", secret)
    assert register.invitations()[0].uses_left == 1
    # Who is in already uses nothing up.
    assert register.admit(ONE, "a", secret)[1] == ""
    register.admit(TWO, "b", secret)
    assert register.invitations() == ()
    assert {node.owner for node in register.nodes()} == {"club"}


def test_it_ends(register: Register, clock: Clock) -> None:
    _, secret = register.invite("anna", lifetime_s=60)
    clock.now += 60
    assert register.invitations() == ()
    with pytest.raises(NotInvited, match="expired"):
        register.admit(ONE, "a", secret)
    # The next one made sweeps it away.
    register.invite("ben", lifetime_s=60)
    with pytest.raises(NotInvited, match="not known here"):
        register.admit(ONE, "a", secret)


def test_it_can_be_withdrawn(register: Register) -> None:
    kept, _ = register.invite("a", lifetime_s=60)
    gone, secret = register.invite("b", lifetime_s=60)
    register.withdraw(frozenset({gone.id, "unknown"}))
    assert register.invitations() == (kept,)
    with pytest.raises(NotInvited, match="withdrawn"):
        register.admit(ONE, "a", secret)


@pytest.mark.parametrize("secret", ["", "x", "A" * 43, "\ud800"])
def test_a_forged_secret_lets_nobody_in(register: Register, secret: str) -> None:
    register.invite("anna", lifetime_s=60)
    with pytest.raises(NotInvited) as caught:
        register.admit(ONE, "a", secret)
    assert "atoll invite" in caught.value.hint
    assert register.nodes() == ()


def test_who_is_enrolled_needs_no_secret(register: Register, path: Path) -> None:
    _, secret = register.invite("anna", lifetime_s=60)
    enrolled, _ = register.admit(ONE, "a", secret)
    assert Register(path).admit(ONE, "renamed", "") == (enrolled, "")


def test_the_file_is_private_and_holds_no_secret(register: Register, path: Path) -> None:
    _, secret = register.invite("anna", lifetime_s=60)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret.encode() not in path.read_bytes()
    assert relay_token(secret).encode() not in path.read_bytes()


def test_a_ticket_is_good_at_the_relay_while_it_is_at_the_gateway(
    register: Register, clock: Clock
) -> None:
    _, once = register.invite("anna", lifetime_s=60)
    _, thrice = register.invite("club", uses=3, lifetime_s=120)
    withdrawn, third = register.invite("ben", lifetime_s=60)
    tokens = [relay_token(secret) for secret in (once, thrice, third)]
    assert [register.guest_places(token) for token in tokens] == [1, 3, 1]
    register.admit(ONE, "a", once)
    register.admit(TWO, "b", thrice)
    register.withdraw(frozenset({withdrawn.id}))
    assert [register.guest_places(token) for token in tokens] == [0, 2, 0]
    clock.now += 120
    assert register.guest_places(tokens[1]) == 0


def test_nothing_else_is_good_at_the_relay(register: Register, path: Path) -> None:
    _, secret = register.invite("anna", lifetime_s=60)
    digest = hashlib.sha256(relay_token(secret).encode()).hexdigest()
    for token in ("", secret, digest, relay_token(""), relay_token("x" * 43), "\ud800"):
        assert register.guest_places(token) == 0
    # A register of before there were guests has invitations without this hash.
    path.write_text(path.read_text().replace(digest, ""))
    assert register.guest_places("") == 0
    register.admit(ONE, "a", secret)


def test_a_damaged_register_lets_no_guest_in(register: Register, path: Path) -> None:
    _, secret = register.invite("a", lifetime_s=60)
    path.write_bytes(b"{")
    with pytest.raises(RecordFault, match="the register"):
        register.guest_places(relay_token(secret))


def test_a_revoked_node_stays_out_even_with_a_ticket(register: Register) -> None:
    _, secret = register.invite("anna", uses=2, lifetime_s=60)
    register.admit(ONE, "pc", secret)
    assert register.revoke("pc").revoked
    for attempt in ("", secret):
        with pytest.raises(NotInvited, match="revoked"):
            register.admit(ONE, "pc", attempt)
    # It cannot clear its name by leaving.
    register.forget(ONE)
    with pytest.raises(NotInvited, match="revoked"):
        register.admit(ONE, "pc", secret)


def test_who_left_needs_a_ticket_again(register: Register) -> None:
    _, secret = register.invite("anna", lifetime_s=60)
    register.admit(ONE, "pc", secret)
    register.forget(ONE)
    with pytest.raises(NotInvited):
        register.admit(ONE, "pc", "")


def test_nodes_are_named_by_name_or_key(register: Register) -> None:
    _, secret = register.invite("anna", uses=2, lifetime_s=60)
    register.admit(ONE, "same", secret)
    register.admit(TWO, "same", secret)
    with pytest.raises(BadInvitation, match="2 nodes are named"):
        register.rest("same", resting=True)
    assert register.rest("22", resting=True).node == TWO
    assert [node.resting for node in register.nodes()] == [False, True]
    assert not register.rest(TWO, resting=False).resting
    for wanted in ("", "nobody", "3"):
        with pytest.raises(BadInvitation, match="no nodes are named"):
            register.revoke(wanted)


@pytest.mark.parametrize(
    ("owner", "uses", "lifetime_s"),
    [("", 1, 60), (" ", 1, 60), ("x" * 65, 1, 60), ("a\nb", 1, 60), ("a", 0, 60), ("a", 1, 0)],
)
def test_what_cannot_be_invited(
    register: Register, owner: str, uses: int, lifetime_s: float
) -> None:
    with pytest.raises(BadInvitation):
        register.invite(owner, uses=uses, lifetime_s=lifetime_s)


def test_there_is_an_end_to_everything(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register_module, "INVITATIONS_MAX", 1)
    monkeypatch.setattr(register_module, "NODES_MAX", 1)
    _, secret = register.invite("a", uses=2, lifetime_s=60)
    with pytest.raises(BadInvitation, match="1 invitations are open"):
        register.invite("b", lifetime_s=60)
    register.admit(ONE, "a", secret)
    with pytest.raises(NotInvited, match="1 nodes are enrolled"):
        register.admit(TWO, "b", secret)


def test_a_damaged_register_lets_nobody_in(register: Register, path: Path) -> None:
    _, secret = register.invite("a", lifetime_s=60)
    path.write_bytes(b"{")
    with pytest.raises(RecordFault, match="the register"):
        register.admit(ONE, "a", secret)


def test_a_node_that_was_vouched_for_needs_no_secret(register: Register, clock: Clock) -> None:
    enrolled = register.enrol(ONE, "annas-pc", "anna")
    assert (enrolled.node, enrolled.name, enrolled.owner) == (ONE, "annas-pc", "anna")
    assert enrolled.enrolled == int(clock.now)
    assert register.enrol(ONE, "other", "other") == enrolled
    assert register.admit(ONE, "annas-pc", "") == (enrolled, "")
    register.revoke("annas-pc")
    with pytest.raises(NotInvited, match="was revoked"):
        register.enrol(ONE, "annas-pc", "anna")


def test_nobody_is_enrolled_beyond_the_bound(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register_module, "NODES_MAX", 1)
    register.enrol(ONE, "one", "anna")
    with pytest.raises(NotInvited, match="1 nodes are enrolled"):
        register.enrol(TWO, "two", "anna")


@pytest.mark.parametrize("owner", ["", " ", "x" * 65, "a\nb"])
def test_an_owner_that_cannot_be_listed(owner: str) -> None:
    with pytest.raises(BadInvitation, match="printable"):
        check_owner(owner)
