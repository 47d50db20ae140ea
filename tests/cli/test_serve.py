"""`atoll serve` as processes see it, and its options."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.cli.conftest import (
    NODES,
    LiveRing,
    Run,
    background,
    family,
    live_ring,
)

from atoll.api.keeper import StreamKeeping
from atoll.api.server import Tls
from atoll.cli.serve import ServeFlags
from atoll.domain.errors import BadRequest
from atoll.engine.threads import SHARED_SPIN
from atoll.gateway.options import LanOptions
from atoll.store.layout import Store

SMALL = ("--port", "0", "--link-port", "0", "--json", "--context", "512")


def test_options_become_the_gateways(tmp_path: Path) -> None:
    flags = ServeFlags(
        home=tmp_path,
        nodes=5,
        streams=2,
        context=100,
        ends=2,
        exact=True,
        wire="int8",
        threads=3,
        threads_large=4,
        gpu="1",
        host="::1",
        port=1,
        link_host="localhost",
        link_port=2,
        auth=False,
    )
    options = flags.serve_options()
    ring = options.ring
    assert (ring.nodes, ring.streams, ring.context, ring.ends, ring.exact) == (5, 2, 100, 2, True)
    assert (ring.wire, ServeFlags().serve_options().ring.wire) == ("int8", "auto")
    assert (ring.threads, ring.threads_large, ring.spin, ring.gpu) == (3, 4, SHARED_SPIN, "1")
    assert (options.host, options.port) == ("::1", 1)
    assert (options.link_host, options.link_port) == ("localhost", 2)
    assert options.join_dir == tmp_path / "join"
    assert not options.auth
    assert options.tls is None
    assert options.lan == LanOptions()


def test_chunks_are_chosen_unless_told() -> None:
    def chunks(**flags: Any) -> tuple[int, bool, int]:
        ring = ServeFlags(**flags).serve_options().ring
        return ring.chunk_rows, ring.chunk_auto, ring.chunk_ms

    assert chunks() == (512, True, 100)
    assert chunks(chunk="96", chunk_ms=0) == (96, False, 0)


@pytest.mark.parametrize("size", ["0", "513", "-1", "many"])
def test_chunks_that_cannot_be(run: Run, size: str) -> None:
    done = run("serve", "no-such-model", f"--chunk={size}")
    assert (done.code, "a number from 1 to 512" in done.err) == (2, True)


def test_options_for_the_network() -> None:
    flags = ServeFlags(announce=False, announce_on="192.0.2.7", name="kitchen")
    assert flags.serve_options().lan == LanOptions(announce=False, host="192.0.2.7", name="kitchen")


def test_how_long_streams_are_kept() -> None:
    assert ServeFlags().serve_options().streams == StreamKeeping(600)
    assert ServeFlags(keep_streams=0).serve_options().streams.seconds == 0


def test_a_machine_of_its_own_spins(tmp_path: Path) -> None:
    assert ServeFlags(home=tmp_path, share_cores=False).serve_options().ring.spin is None


def test_threads_follow_the_cores(tmp_path: Path) -> None:
    ring = ServeFlags(home=tmp_path).serve_options().ring
    assert 1 <= ring.threads == ring.threads_large <= 4


def test_tls_files_go_together(tmp_path: Path) -> None:
    both = ServeFlags(tls_cert=tmp_path / "cert", tls_key=tmp_path / "key").serve_options()
    assert both.tls == Tls(tmp_path / "cert", tmp_path / "key")
    with pytest.raises(BadRequest, match="go together"):
        ServeFlags(tls_key=tmp_path / "key").serve_options()


@pytest.mark.engine
@pytest.mark.network
class TestLive:
    def test_it_says_where_it_is(self, ring: LiveRing) -> None:
        assert ring.opened["pid"] == ring.gateway.pid
        assert len(ring.opened["join_files"]) == NODES  # type: ignore[arg-type]
        said = ring.gateway_log.read_text()
        assert f"atoll join {ring.home}/join/node-1.join --home" in said
        assert f"the ring is up: {ring.url}/v1" in said
        assert httpx.get(f"{ring.url}/health", timeout=10).json() == {"status": "ok"}

    def test_its_marks_are_private(self, ring: LiveRing) -> None:
        for name in ("run/gateway.json", "gateway.pem", "keys.json"):
            assert stat.S_IMODE((ring.home / name).stat().st_mode) == 0o600

    def test_no_secret_is_in_any_argument(self, ring: LiveRing) -> None:
        key = json.loads((ring.home / "run" / "gateway.json").read_text())["key"]
        lines = [
            " ".join(process.cmdline())
            for root in (ring.gateway, *ring.nodes)
            for process in family(root)
        ]
        # The gateway with its ends and text processes; each node with its stage.
        assert len(lines) == 3 + 2 * NODES
        assert not [line for line in lines if any(s in line for s in (*ring.secrets, key))]

    def test_used_join_files_are_gone(self, ring: LiveRing) -> None:
        assert not list((ring.home / "join").glob("*.join"))

    def test_a_second_one_needs_another_home(
        self, ring: LiveRing, run: Run, demo_model: Path, test_store: Store
    ) -> None:
        second = run("serve", str(demo_model), "--store", str(test_store.home), home=ring.home)
        assert second.code == 2
        assert "a gateway already runs with the home" in second.err
        assert "--home" in second.err

    def test_a_request_needs_a_key(self, ring: LiveRing) -> None:
        assert httpx.get(f"{ring.url}/v1/models", timeout=10).status_code == 401


@pytest.mark.engine
@pytest.mark.network
class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_before_nodes_came_leaves_nothing(
        self, number: signal.Signals, tmp_path: Path, small_model: Path
    ) -> None:
        home, log = tmp_path / "home", tmp_path / "log"
        arguments = ["serve", str(small_model), *SMALL]
        with background([*arguments, "--store", str(tmp_path / "store")], home, log) as process:
            assert process.stdout is not None
            opened = json.loads(process.stdout.readline())
            started = family(psutil.Process(process.pid))
            process.send_signal(number)
            assert process.wait(timeout=30) == 0
            psutil.wait_procs(started, timeout=10)
            assert not [p for p in started if p.is_running()]
        assert f"stopped by {number.name}" in log.read_text()
        assert not [file for file in opened["join_files"] if Path(file).exists()]
        assert not (home / "run" / "gateway.json").exists()
        keys = json.loads((home / "keys.json").read_text())
        assert keys["keys"] == []

    def test_it_stops_when_its_input_ends(self, tmp_path: Path, small_model: Path) -> None:
        arguments = ["serve", str(small_model), *SMALL, "--stop-at-eof"]
        home, log = tmp_path / "home", tmp_path / "log"
        with background([*arguments, "--store", str(tmp_path / "store")], home, log) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline()
            process.stdin.close()
            assert process.wait(timeout=30) == 0, log.read_text()

    def test_the_end_of_a_ring_leaves_nothing(self, tmp_path: Path, small_model: Path) -> None:
        with live_ring(tmp_path, small_model, Store(tmp_path / "store")) as ring:
            everything = [p for root in (ring.gateway, *ring.nodes) for p in family(root)]
            ring.gateway.send_signal(signal.SIGTERM)
            gone, alive = psutil.wait_procs(everything, timeout=30)
            assert not alive, [p.cmdline() for p in alive]
            assert len(gone) == len(everything)
            for log in ring.node_logs:
                assert "the gateway said goodbye" in log.read_text()
        assert not (tmp_path / "ready").exists()

    def test_a_killed_gateway_does_not_bar_the_next(
        self, tmp_path: Path, small_model: Path, run: Run
    ) -> None:
        home = tmp_path / "home"
        arguments = ["serve", str(small_model), *SMALL]
        arguments += ["--store", str(tmp_path / "store")]
        with background(arguments, home, tmp_path / "log") as first:
            assert first.stdout is not None
            assert first.stdout.readline()
            children = psutil.Process(first.pid).children(recursive=True)
            first.kill()
            first.wait(timeout=10)
            psutil.wait_procs(children, timeout=10)
            assert not [p for p in children if p.is_running()]
        assert (home / "run" / "gateway.json").exists()
        status = run("status", home=home)
        assert status.code == 7
        assert "no gateway runs here" in status.err
        with background(arguments, home, tmp_path / "log") as second:
            assert second.stdout is not None
            assert second.stdout.readline()
            listed = json.loads(run("keys", "list", "--json", home=home).out)
            assert [key["name"] for key in listed] == ["atoll-on-this-machine"]
