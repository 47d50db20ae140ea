"""`atoll nodes`: the register as its operator sees and changes it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import LiveRing, Run, background, clean_environment, command, wait_until

from atoll.domain.ids import NodeId
from atoll.members.knocks import KNOCKS_FILE, Knocks, WaitingNode
from atoll.members.register import REGISTER_FILE, Register
from atoll.net.home import held_home

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


WAITING = WaitingNode(NodeId("ab" * 32), "annas\x1b-pc", "10.0.0.1", "012 345", 1)


@pytest.fixture
def home_with_one_waiting(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    Knocks(home / KNOCKS_FILE).publish((WAITING,))
    with held_home(home, "gateway"):
        yield home


def decisions(home: Path) -> list[tuple[bool, str]]:
    return [(d.approved, d.owner) for d in Knocks(home / KNOCKS_FILE).decisions()]


def test_who_waits_is_shown_with_its_code(run: Run, home_with_one_waiting: Path) -> None:
    shown = run("nodes", "list", home=home_with_one_waiting)
    for part in ("waiting nodes", "abababababab", "annas\ufffd-pc", "012 345", "compares it"):
        assert part in shown.out
    assert "atoll nodes approve" in shown.err
    told = json.loads(run("nodes", "list", "--json", home=home_with_one_waiting).out)
    assert told["waiting"][0]["code"] == "012 345"


def test_without_a_gateway_nobody_waits(run: Run, tmp_path: Path) -> None:
    Knocks(tmp_path / "home" / KNOCKS_FILE).publish((WAITING,))
    assert "waiting" not in run("nodes", "list").out
    for word in ("approve", "deny"):
        refused = run("nodes", word, "ab")
        assert refused.code == 1
        assert "no gateway runs with the home" in refused.err
        assert "atoll serve" in refused.err


def test_approved_with_the_nodes_code(run: Run, home_with_one_waiting: Path) -> None:
    arguments = ("nodes", "approve", "abab", "--code", "012345", "--owner", "anna")
    done = run(*arguments, home=home_with_one_waiting)
    assert done.code == 0
    assert "approved abababababab" in done.out
    assert "as soon as its owner has confirmed" in done.err
    assert decisions(home_with_one_waiting) == [(True, "anna")]


def test_another_code_is_refused(run: Run, home_with_one_waiting: Path) -> None:
    refused = run("nodes", "approve", "abab", "--code", "012346", home=home_with_one_waiting)
    assert refused.code == 2
    assert "the codes differ: abababababab should show 012 345" in refused.err
    assert "atoll nodes deny abababababab" in refused.err
    assert decisions(home_with_one_waiting) == []


def test_nobody_is_there_to_compare(run: Run, home_with_one_waiting: Path) -> None:
    refused = run("nodes", "approve", "abab", home=home_with_one_waiting)
    assert refused.code == 2
    assert "no terminal" in refused.err
    assert "--code CODE" in refused.err


@pytest.mark.parametrize(("typed", "code"), [(b"y\n", 0), (b"\n", 2)])
def test_the_operator_is_asked(home_with_one_waiting: Path, typed: bytes, code: int) -> None:
    home = home_with_one_waiting
    ours, theirs = os.openpty()
    os.write(ours, typed)
    done = subprocess.run(
        command("nodes", "approve", "abab"),
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean_environment(home),
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == code, done.stderr
    assert "its code has to be 012 345" in done.stderr
    assert "Does it show this code? [y/N]" in done.stderr
    assert decisions(home) == ([(True, "local")] if code == 0 else [])
    assert code == 0 or "was not approved, and waits on" in done.stderr


def test_denied(run: Run, home_with_one_waiting: Path) -> None:
    told = json.loads(run("nodes", "deny", "ab", "--json", home=home_with_one_waiting).out)
    assert told["node"] == WAITING.node
    assert decisions(home_with_one_waiting) == [(False, "local")]


def test_who_does_not_wait(run: Run, home_with_one_waiting: Path) -> None:
    refused = run("nodes", "deny", "zoe", home=home_with_one_waiting)
    assert refused.code == 2
    assert "no nodes that wait are named 'zoe'" in refused.err


@pytest.mark.engine
@pytest.mark.network
def test_who_only_lends_memory(ring: LiveRing, run: Run, tmp_path: Path) -> None:
    ticket = run("invite", home=ring.home).out.strip()
    (tmp_path / "ticket").touch(mode=0o600)
    (tmp_path / "ticket").write_text(ticket)
    words = ["join", str(tmp_path / "ticket"), "--name", "shelf", "--memory-only", "64MB"]
    log = tmp_path / "shelf.log"
    with background(words, tmp_path / "shelf", log):
        wait_until(lambda: "joined as shelf" in log.read_text(), "the node", log)
        assert "lending 0.06 GB of memory, computing nothing" in log.read_text()
        shown = run("nodes", "list", home=ring.home).out
        [row] = [line for line in shown.splitlines() if "shelf" in line]
        assert "memory, 0.0 of 61.0 MiB used" in row
        told = json.loads(run("nodes", "list", "--json", home=ring.home).out)
        assert [(m["name"], m["lent_bytes"]) for m in told["memory"]] == [("shelf", 64_000_000)]
        status = run("status", home=ring.home)
        assert status.code == 0
        [row] = [line for line in status.out.splitlines() if "shelf" in line]
        assert "memory" in row
        assert "61.0" in row
    found = json.loads(run("status", "--json", home=ring.home).out)
    assert (found["memory"], found["nodes_missing"], found["ready"]) == ([], 0, True)
    shown = run("nodes", "list", home=ring.home).out
    [row] = [line for line in shown.splitlines() if "shelf" in line]
    assert "may come" in row
