"""`atoll nodes`: the register as its operator sees and changes it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run

from atoll.domain.ids import NodeId
from atoll.gateway.register import REGISTER_FILE, Register

ONE = NodeId("1" * 64)


def a_home(tmp_path: Path) -> Path:
    register = Register(tmp_path / "home" / REGISTER_FILE)
    _, secret = register.invite("anna", uses=2, lifetime_s=3600)
    register.admit(ONE, "annas-pc", secret)
    return tmp_path / "home"


def test_nobody_yet(run: Run) -> None:
    done = run("nodes", "list")
    assert (done.code, done.out) == (0, "")
    assert "atoll invite" in done.err


def test_who_may_come(run: Run, tmp_path: Path) -> None:
    home = a_home(tmp_path)
    shown = run("nodes", "list", home=home).out
    for part in ("1" * 12, "anna", "annas-pc", "may come", "open invitations"):
        assert part in shown
    told = json.loads(run("nodes", "list", "--json", home=home).out)
    assert told["nodes"][0]["node"] == ONE
    assert told["invitations"][0]["uses_left"] == 1
    assert "sha256" not in json.dumps(told)


def test_resting_and_back(run: Run, tmp_path: Path) -> None:
    home = a_home(tmp_path)
    assert "is to rest: 111111111111 annas-pc" in run("nodes", "drain", "annas-pc", home=home).out
    assert "rests" in run("nodes", "list", home=home).out
    assert "may take part" in run("nodes", "resume", "11", home=home).out
    assert "may come" in run("nodes", "list", home=home).out


def test_revoked(run: Run, tmp_path: Path) -> None:
    home = a_home(tmp_path)
    told = json.loads(run("nodes", "revoke", "annas-pc", "--json", home=home).out)
    assert told["revoked"] is True
    assert "revoked" in run("nodes", "list", home=home).out
    refused = run("nodes", "revoke", "annas-pc", home=home)
    assert refused.code == 2
    assert "atoll nodes" in refused.err
