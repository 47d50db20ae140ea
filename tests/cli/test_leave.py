"""`atoll join` with a ticket, again without one, and `atoll leave`: a membership's life."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pytest
from tests.cli.conftest import LiveRing, Run, background, wait_until

from atoll.domain.address import HostPort
from atoll.net.home import held_home
from atoll.net.identity import Identity
from atoll.node.membership import FILE, Membership
from atoll.store.layout import Store


def test_who_never_joined_cannot_leave(run: Run) -> None:
    refused = run("leave")
    assert refused.code == 6
    assert "has joined no gateway yet" in refused.err


def test_a_gateway_that_is_gone_is_left_by_force(
    run: Run, run_plainly: Run, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    Membership(Identity.generate().node_id, (HostPort("127.0.0.1", 1),)).save(home)
    refused = run("leave", home=home)
    assert refused.code == 6
    assert "--force" in refused.err
    assert (home / FILE).exists()
    assert run_plainly("leave", "--force", home=home).code == 0
    assert not (home / FILE).exists()


def test_a_running_node_is_stopped_first(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with held_home(home, "node"):
        refused = run("leave", home=home)
    assert refused.code == 2
    assert "a node already runs" in refused.err


@pytest.mark.engine
@pytest.mark.network
@pytest.mark.long
def test_a_membership(
    ring: LiveRing, run: Run, tmp_path: Path, demo_model: Path, test_store: Store
) -> None:
    ticket = run("invite", "--owner", "ben", home=ring.home).out.strip()
    home, log = tmp_path / "node", tmp_path / "node.log"
    rest = ["--name", "bens-pc", "--model", str(demo_model), "--store", str(test_store.home)]

    def enrolled() -> dict[str, object]:
        listed = json.loads(run("nodes", "list", "--json", home=ring.home).out)
        return {node["name"]: node["owner"] for node in listed["nodes"]}

    # The ring is complete, so it is a spare; what it is told is the same.
    for arguments in (["join", ticket], ["join"]):
        with background([*arguments, *rest], home, log) as node:
            wait_until(lambda: "joined as bens-pc" in log.read_text(), "joining", log)
            assert ticket not in " ".join(psutil.Process(ring.gateway.pid).cmdline())
            node.send_signal(signal.SIGTERM)
            assert node.wait(20) == 0
        assert enrolled()["bens-pc"] == "ben"
    left = run("leave", home=home)
    assert left.code == 0, left.err
    assert "bens-pc" not in enrolled()
    again = run("join", *rest, home=home)
    assert "has joined no gateway yet" in again.err
    refused = run("join", ticket, *rest, home=home)
    assert refused.code == 9
    assert "not known here" in refused.err
