"""`atoll bench` against a running ring and against others: what it prints, refuses and keeps."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest
from tests.cli.conftest import NODES, LiveRing, Ran, Run, clean_environment, command
from tests.client.conftest import STATUS
from tests.support import hand_completions as hand
from tests.support.hand_completions import hand_completions

from atoll import __version__

SMALL = ("--prompt", "16", "--generate", "12", "--depths", "0,8", "--rounds", "1")
ROWS = ["pp16", "tg12", "tg12 @ d8", "pp16 x2", "tg12 x2", "tg12 @ d8 x2"]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.engine
@pytest.mark.network
class TestLive:
    @pytest.mark.long
    def test_a_table_for_sharing(self, ring: LiveRing, run: Run) -> None:
        # The ring has two places: of the default, 1,4, remain 1 and 2.
        measured = run("bench", *SMALL, home=ring.home)
        assert measured.code == 0, measured.err
        head, rule, *rows, gap, told = measured.out.splitlines()
        assert cells(head)[:5] == ["model", "quantisation", "nodes", "test", "t/s"]
        assert set(rule) <= set("|-: ")
        assert [cells(row)[3] for row in rows] == ROWS
        assert all(cells(row)[1:3] == ["Q4_1", str(NODES)] for row in rows)
        assert all(float(cells(row)[4].split(" ± ")[0]) > 0 for row in rows)
        assert gap == ""
        assert told.startswith(
            "llama, 30 layers, context 512; mean ± standard deviation of 1 round;"
        )
        assert told.endswith(f"atoll {__version__}, measured by {__version__}")
        assert measured.err == ""

    def test_json(self, ring: LiveRing, run: Run) -> None:
        options = ("--prompt", "16", "--generate", "12", "--depths", "8", "--rounds", "2")
        measured = run("bench", *options, "--streams", "1", "--json", home=ring.home)
        assert measured.code == 0, measured.err
        found = json.loads(measured.out)
        assert found["complete"] is True
        assert (found["server"]["nodes"], found["server"]["streams"]) == (NODES, 2)
        assert [rate["test"] for rate in found["rates"]] == ["pp16", "tg12 @ d8"]
        assert all(len(rate["samples"]) == rate["rounds"] == 2 for rate in found["rates"])
        read, said = found["rates"]
        assert read["token_ms_p50"] is None
        assert 0 < said["token_ms_p50"] <= said["token_ms_p99"]

    @pytest.mark.parametrize(
        ("options", "problem", "hint"),
        [
            (("--streams", "4"), "4 streams are more than the 2 answers", "up to 2"),
            ((), "pp512 takes 513 tokens, but the model's context is 512", "up to 511 fits"),
            (
                ("--prompt", "8", "--depths", "0,500"),
                "tg128 @ d500 takes 629 tokens",
                "depths up to 383 fit",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused_at_once(
        self, ring: LiveRing, run: Run, options: tuple[str, ...], problem: str, hint: str
    ) -> None:
        refused = run("bench", *options, home=ring.home)
        assert (refused.code, refused.out) == (2, "")
        assert problem in refused.err
        assert hint in refused.err

    def test_another_model(self, ring: LiveRing, run: Run) -> None:
        refused = run("bench", *SMALL, "--model", "other", home=ring.home)
        assert refused.code == 7
        assert "'other' is not served here" in refused.err

    def test_ctrl_c_shows_what_is_known(self, ring: LiveRing, run: Run) -> None:
        screen, inner = pty.openpty()
        options = ("--prompt", "8", "--generate", "8", "--depths", "0", "--streams", "1")
        with subprocess.Popen(
            command("bench", *options, "--rounds", "1000"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=inner,
            text=True,
            env=clean_environment(ring.home, TERM="xterm", COLUMNS="120"),
        ) as process:
            os.close(inner)
            try:
                seen = b""
                # The bar says that a round of the second row is begun.
                while not any(f" {n}/2000".encode() in _plain(seen) for n in range(2, 60)):
                    seen += os.read(screen, 65536)
                process.send_signal(signal.SIGINT)
                out, _ = process.communicate(timeout=30)
            finally:
                process.kill()
                os.close(screen)
        assert process.returncode == 130
        assert [cells(line)[3] for line in out.splitlines()[2:4]] == ["pp8", "tg8"]
        status = json.loads(run("status", "--json", home=ring.home).out)
        assert status["nodes_missing"] == 0


def _plain(seen: bytes) -> bytes:
    """Without what colours a bar."""
    return b"".join(
        part.partition(b"m")[2] if n else part for n, part in enumerate(seen.split(b"\x1b["))
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--depths", "0;5"), "'0;5' is not numbers with commas"),
        (("--streams", "1,-2"), "'1,-2' is not numbers with commas"),
        (("--streams", "0"), "--streams 0 is out of range"),
        (("--rounds", "0"), "--rounds 0 is out of range"),
        (("--prompt", "-1"), "--prompt -1 is out of range"),
        (("--prompt", "0", "--generate", "0"), "there is nothing to measure"),
        (("--prompt", "many"), "--prompt"),
    ],
)
def test_options_that_make_no_sense(run: Run, options: tuple[str, ...], problem: str) -> None:
    refused = run("bench", "--url", "http://127.0.0.1:1", *options)
    assert (refused.code, refused.out) == (2, "")
    assert problem in refused.err


def test_nobody_there(run: Run) -> None:
    assert run("bench").code == 7
    refused = run("bench", "--url", "http://127.0.0.1:1")
    assert refused.code == 7
    assert "cannot reach" in refused.err


async def _bench(home: Path, *arguments: str) -> Ran:
    process = await asyncio.create_subprocess_exec(
        *command("bench", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(home),
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


@pytest.mark.network
async def test_a_server_of_another_make(tmp_path: Path) -> None:
    async with hand_completions() as server:
        measured = await _bench(tmp_path, *SMALL, "--url", f"{server.url}/v1", "--streams", "1,2")
    assert measured.code == 0, measured.err
    lines = measured.out.splitlines()
    assert cells(lines[0])[:3] == ["model", "test", "t/s"]
    assert [cells(line)[:2] for line in lines[2:8]] == [["shell", row] for row in ROWS]
    assert lines[-1].endswith(f"measured by atoll {__version__}")


@pytest.mark.network
async def test_a_busy_ring_is_told(tmp_path: Path) -> None:
    status = hand.OK + msgspec.json.encode(msgspec.structs.replace(STATUS, active=2, waiting=1))
    async with hand_completions(status=status) as server:
        options = ("--depths", "0", "--streams", "1", "--rounds", "1", "--generate", "4")
        measured = await _bench(tmp_path, *options, "--url", server.url)
    assert measured.code == 0, measured.err
    assert "busy with 3 other answers" in measured.err


@pytest.mark.network
async def test_a_server_that_breaks_off_leaves_what_is_known(tmp_path: Path) -> None:
    bad = hand.says(hand.OK, hand.token(), hand.event(error={"message": "no power"}))
    async with hand_completions(hand.after(3, bad)) as server:
        options = (*SMALL, "--url", server.url, "--streams", "1")
        shown = await _bench(tmp_path, *options)
        again = await _bench(tmp_path, *options, "--json")
    assert shown.code == 7
    assert [cells(line)[1] for line in shown.out.splitlines()[2:3]] == ["pp16"]
    assert "stopped before all was measured" in shown.err
    assert "error: the answer broke off: no power" in shown.err
    # Nothing was known the second time.
    assert (again.code, again.out) == (7, "")
    assert "no power" in again.err
