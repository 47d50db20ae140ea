"""`atoll drain`: until the node has no part in any ring."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import LiveRing, Run

from atoll.domain.ids import NodeId
from atoll.members.register import REGISTER_FILE, Register

ONE = NodeId("1" * 64)


def a_home(tmp_path: Path) -> Path:
    register = Register(tmp_path / "home" / REGISTER_FILE)
    _, secret = register.invite("anna", uses=2, lifetime_s=3600)
    register.admit(ONE, "annas-pc", secret)
    return tmp_path / "home"


def test_without_a_gateway_it_is_noted(run: Run, run_plainly: Run, tmp_path: Path) -> None:
    home = a_home(tmp_path)
    done = run_plainly("drain", "annas-pc", home=home)
    assert done.code == 0
    assert "annas-pc has no part in any ring" in done.err
    assert "rests" in run("nodes", "list", home=home).out
    told = json.loads(run("drain", "annas-pc", "--json", home=home).out)
    assert told == {"node": ONE, "name": "annas-pc", "serves": False}


def test_nobody_of_that_name(run: Run, tmp_path: Path) -> None:
    done = run("drain", "berts-pc", home=a_home(tmp_path))
    assert done.code != 0
    assert "berts-pc" in done.err


def test_where_nobody_can_take_its_place_it_goes_on(run: Run, ring: LiveRing) -> None:
    enrolled = json.loads(run("nodes", "list", "--json", home=ring.home).out)["nodes"]
    key = enrolled[0]["node"][:12]
    done = run("drain", key, "--wait", "0.5", home=ring.home)
    assert done.code == 7
    assert "still has a part" in done.err
    told = json.loads(run("drain", key, "--wait", "0", "--json", home=ring.home).out)
    assert told["serves"] is True
    assert run("nodes", "resume", key, home=ring.home).code == 0
