"""Joining on a network without a ticket, in processes, found by multicast on loopback."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.conftest import (
    Ran,
    background,
    clean_environment,
    command,
    run_to_its_end,
    wait_until,
)

from atoll.gateway.run_file import read_run_file
from atoll.members.knocks import KNOCKS_FILE, Knocks, WaitingNode
from atoll.members.register import REGISTER_FILE, Register
from atoll.node.membership import Membership, has_joined
from atoll.store.layout import Store

pytestmark = [pytest.mark.engine, pytest.mark.network]

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Serving:
    """A gateway that is announced on loopback, under a name of its own."""

    home: Path
    folder: Path
    name: str
    log: Path
    store: list[str]

    @property
    def knocks(self) -> Knocks:
        return Knocks(self.home / KNOCKS_FILE)

    def join(self, *arguments: str) -> list[str]:
        return ["join", "--look-on", LOOPBACK, "--gateway", self.name, *self.store, *arguments]

    def run(self, *arguments: str) -> Ran:
        return run_to_its_end(arguments, clean_environment(self.home))

    def waiting(self, log: Path) -> WaitingNode:
        """The one node that waits, as soon as it does."""
        wait_until(lambda: bool(self.knocks.waiting()), "a node that waits", log)
        [node] = self.knocks.waiting()
        return node


@pytest.fixture(scope="module")
def serving(
    tmp_path_factory: pytest.TempPathFactory, demo_model: Path, test_store: Store
) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("lan")
    store = ["--store", str(test_store.home), "--threads", "1", "--threads-large", "1"]
    home, log, name = folder / "gateway", folder / "gateway.log", f"kitchen {secrets.token_hex(4)}"
    arguments = ["serve", str(demo_model), "--nodes", "1", "--port", "0", "--link-port", "0"]
    arguments += ["--streams", "1", "--context", "256", "--json", *store]
    with background([*arguments, "--announce-on", LOOPBACK, "--name", name], home, log) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline(), log.read_text()
        yield Serving(home, folder, name, log, store)


def test_no_gateway_of_that_name(serving: Serving, tmp_path: Path) -> None:
    words = ("join", "--look-on", LOOPBACK, "--gateway", "attic", "--read-code")
    done = run_to_its_end(words, clean_environment(tmp_path / "home"))
    assert done.code == 6
    assert "looking for gateways on this network" in done.err
    assert "no gateway called 'attic' announces itself" in done.err
    assert "atoll invite" in done.err


def test_codes_that_differ_capture_nobody(serving: Serving, tmp_path: Path) -> None:
    home, log = tmp_path / "node", tmp_path / "log"
    with background(serving.join("--read-code"), home, log) as node:
        waiting = serving.waiting(log)
        wrong = "000 000" if waiting.code != "000 000" else "111 111"
        assert node.stdin is not None
        refused = serving.run("nodes", "approve", waiting.node[:12], "--code", wrong)
        assert refused.code == 2
        node.stdin.write(f"{wrong}\n")
        node.stdin.flush()
        assert node.wait(timeout=30) == 6
    said = log.read_text()
    assert "this machine joins nobody" in said
    assert not has_joined(home)
    assert Register(serving.home / REGISTER_FILE).nodes() == ()
    wait_until(lambda: not serving.knocks.waiting(), "an empty list", serving.log)


@contextmanager
def at_terminal(
    arguments: list[str], home: Path, log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command on a terminal; yields the terminal's other end too."""
    ours, theirs = os.openpty()
    with log.open("wb") as talk:
        process = subprocess.Popen(
            command(*arguments),
            stdin=theirs,
            stdout=talk,
            stderr=talk,
            env=clean_environment(home),
        )
    try:
        yield process, ours
    finally:
        process.terminate()
        process.wait(timeout=30)
        os.close(ours)
        os.close(theirs)


def test_denied_while_the_owner_is_asked(serving: Serving, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with at_terminal(serving.join("--name", "bobs"), tmp_path / "node", log) as (node, _):
        serving.waiting(log)
        assert serving.run("nodes", "deny", "bobs").code == 0
        assert node.wait(timeout=30) == 6
    said = log.read_text()
    assert "Does the gateway show the same code? [y/N]" in said
    assert "the gateway's operator declined" in said
    assert not has_joined(tmp_path / "node")


def test_both_confirm_and_the_ring_answers(
    serving: Serving, tmp_path: Path, demo_model: Path
) -> None:
    home, log = tmp_path / "node", tmp_path / "log"
    joining = serving.join("--name", "annas-pc", "--model", str(demo_model))
    with at_terminal(joining, home, log) as (node, terminal):
        waiting = serving.waiting(log)
        assert f"the code is {waiting.code}" in log.read_text()
        listed = json.loads(serving.run("nodes", "list", "--json").out)["waiting"]
        assert [(n["name"], n["code"]) for n in listed] == [("annas-pc", waiting.code)]
        assert f"its code has to be {waiting.code}" in serving.log.read_text()

        approved = serving.run(
            *("nodes", "approve", "annas-pc", "--code", waiting.code, "--owner", "anna")
        )
        assert approved.code == 0, approved.err
        assert not has_joined(home)
        os.write(terminal, b"y\n")
        wait_until(lambda: "the ring is up" in serving.log.read_text(), "the ring", log)

        running = read_run_file(serving.home)
        assert running is not None
        assert Membership.load(home).gateway == running.gateway
        [enrolled] = Register(serving.home / REGISTER_FILE).nodes()
        assert (enrolled.node, enrolled.owner) == (waiting.node, "anna")
        answer = serving.run("chat", "Hello", "--max-tokens", "4")
        assert answer.code == 0, answer.err
        assert answer.out.strip()
        node.terminate()
        assert node.wait(timeout=30) == 0

    # It comes back by itself, without a ticket and without a code.
    with background(["join", "--model", str(demo_model), *serving.store], home, log):
        wait_until(lambda: "serving layers" in log.read_text(), "the node", log)
