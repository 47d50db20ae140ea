"""`atoll join`: its options, its bad inputs, and a node's life as a process."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pytest
from tests.cli.conftest import LiveRing, Run, family, live_ring, wait_until
from tests.support.loopback import Site, serving

from atoll.cli.join_flags import JoinFlags
from atoll.domain.address import HostPort
from atoll.domain.ids import NodeId
from atoll.engine.library import LIBRARY_VARIABLE
from atoll.engine.threads import SHARED_SPIN
from atoll.net.home import held_home
from atoll.net.ticket import Ticket
from atoll.store.layout import Store

GATEWAY = NodeId("ab" * 32)


def _join_file(path: Path, port: int = 1) -> Path:
    Ticket(GATEWAY, (HostPort("127.0.0.1", port),), "s" * 43, 2**40).write(path)
    return path


def test_options_become_the_nodes() -> None:
    flags = JoinFlags(name="me", model="m", threads=2, threads_large=3, host="::1", port=9)
    node = flags.node_options()
    assert (node.name, node.model, node.threads, node.threads_large) == ("me", "m", 2, 3)
    assert (node.host, node.port, node.spin) == ("::1", 9, SHARED_SPIN)
    assert (node.gpu, JoinFlags(gpu="2").node_options().gpu) == ("auto", "2")
    assert JoinFlags(share_cores=False).node_options().spin is None
    assert JoinFlags().node_options().name != ""
    assert JoinFlags().node_options().cache_bytes_max is None
    assert JoinFlags(cache_max="2GB").node_options().cache_bytes_max == 2 * 10**9
    assert JoinFlags(cache_max="0").node_options().cache_bytes_max == 0


@pytest.mark.parametrize("wish", ["all", "-1", "0.5", ""])
def test_a_gpu_is_auto_none_or_a_number(run: Run, tmp_path: Path, wish: str) -> None:
    refused = run("join", str(_join_file(tmp_path / "a.join")), f"--gpu={wish}")
    assert refused.code == 2
    assert "neither auto, none nor a GPU's number" in refused.err


@pytest.mark.engine
def test_a_library_that_is_not_there_is_told_before_joining(run: Run, tmp_path: Path) -> None:
    named = {LIBRARY_VARIABLE: str(tmp_path / "absent.so")}
    failed = run("join", str(_join_file(tmp_path / "a.join")), **named)
    assert failed.code == 5
    assert "absent.so, which is not there" in failed.err
    assert LIBRARY_VARIABLE in failed.err


def test_a_gateway_that_is_not_there(run: Run, tmp_path: Path) -> None:
    failed = run("join", str(_join_file(tmp_path / "a.join")))
    assert failed.code == 6
    assert failed.err.startswith("error: ")
    assert "hint: " in failed.err


def test_a_join_file_open_to_others_is_refused(run: Run, tmp_path: Path) -> None:
    file = _join_file(tmp_path / "a.join")
    file.chmod(0o640)
    refused = run("join", str(file))
    assert refused.code == 6
    assert "open to other users" in refused.err


@pytest.mark.parametrize("text", ["", "{}", "x" * 10_000, "atoll-ticket-hush-hush"])
def test_a_malformed_ticket_is_not_repeated(run: Run, text: str) -> None:
    refused = run("join", "-", stdin=text)
    assert refused.code == 6
    assert "standard input" in refused.err
    assert "hush-hush" not in refused.err


def test_a_damaged_ticket_is_told(run: Run) -> None:
    refused = run("join", "atoll-ticket-hush-hush")
    assert refused.code == 6
    assert "the ticket is damaged" in refused.err
    assert "hush-hush" not in refused.err


def test_without_a_ticket_the_first_time(run: Run) -> None:
    refused = run("join")
    assert refused.code == 2
    assert "has joined no gateway yet" in refused.err
    assert "no terminal" in refused.err
    assert "atoll invite" in refused.err


def test_what_counts_only_without_a_ticket_is_told(run: Run, tmp_path: Path) -> None:
    failed = run("join", str(_join_file(tmp_path / "a.join")), "--gateway", "kitchen")
    assert failed.code == 6
    assert "--gateway and --read-code count only without a ticket" in failed.err


@pytest.mark.parametrize("address", ["eth0", "::1", "10.0.0", "10.0.0.256"])
def test_an_interface_is_an_address(run: Run, address: str) -> None:
    for words in (("join", "--look-on"), ("serve", "model", "--announce-on")):
        refused = run(*words, address)
        assert refused.code == 2
        assert address in refused.err


def test_a_bound_that_is_no_size(run: Run, tmp_path: Path) -> None:
    refused = run("join", str(_join_file(tmp_path / "a.join")), "--cache-max", "lots")
    assert refused.code == 2
    assert "is not a size" in refused.err


def test_two_nodes_do_not_share_a_home(run: Run, tmp_path: Path) -> None:
    with held_home(tmp_path / "shared", "node"):
        refused = run(
            "join", str(_join_file(tmp_path / "a.join")), "--home", str(tmp_path / "shared")
        )
    assert refused.code == 2
    assert "a node already runs with the home" in refused.err
    assert "--home DIR" in refused.err


@pytest.mark.engine
@pytest.mark.network
class TestLive:
    def test_it_says_what_it_serves(self, ring: LiveRing) -> None:
        for number, log in enumerate(ring.node_logs):
            said = log.read_text()
            assert f"joined as node-{number}" in said
            assert "serving layers" in said

    def test_a_used_ticket_is_refused(self, ring: LiveRing, run: Run) -> None:
        refused = run("join", "-", stdin=ring.invitations[0])
        assert refused.code == 9
        assert "the gateway refuses this node" in refused.err
        assert "hint: " in refused.err

    def test_a_signal_ends_it_and_its_stage(self, tmp_path: Path, small_model: Path) -> None:
        with live_ring(tmp_path, small_model, Store(tmp_path / "store")) as ring:
            node, stage = family(ring.nodes[0])
            node.send_signal(signal.SIGTERM)
            _, alive = psutil.wait_procs([node, stage], timeout=20)
            assert not alive
            assert "stopped by SIGTERM" in ring.node_logs[0].read_text()
            # The gateway goes on, and invites another to the empty place.
            new_file = ring.home / "join" / "node-1.join"
            wait_until(new_file.exists, "a new join file", ring.gateway_log)
            assert ring.gateway.is_running()

    def test_nodes_without_the_model_fetch_their_layers(
        self, tmp_path: Path, demo_model: Path, test_store: Store, run: Run
    ) -> None:
        content = demo_model.read_bytes()
        with (
            serving(Site(content)) as site,
            live_ring(tmp_path, demo_model, test_store, address=site.url) as ring,
        ):
            status = json.loads(run("status", "--json", home=ring.home).out)
            assert status["ready"]
            answer = run("chat", "Hello", "--max-tokens", "4", home=ring.home)
        for number in range(2):
            store = Store(tmp_path / f"node-{number}")
            assert store.models() == []
            [shard] = store.shards_dir.glob("*/*.gguf")
            assert shard.stat().st_size < len(content) / 2
        assert answer.code == 0
        assert all("range" in headers for headers in site.seen)
