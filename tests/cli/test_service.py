"""`atoll service print`: its options, and a node that its command line really runs."""

from __future__ import annotations

import json
import os
import plistlib
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.conftest import WAIT_S, Run, background, clean_environment, command, wait_until

from atoll.cli.service import program
from atoll.members.register import REGISTER_FILE, Register
from atoll.node.service import FINAL_EXITS
from atoll.store.layout import Store

ME = pwd.getpwuid(os.geteuid()).pw_name


def exec_start(unit: str) -> list[str]:
    """The words of the unit's command line, as systemd would read them."""
    [line] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    words = shlex.split(line.partition("=")[2])
    return [word.replace("%%", "%").replace("$$", "$") for word in words]


def test_the_options_of_join_are_handed_on(run_plainly: Run, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    given = ["--name", "a b", "--own-cores", "--port", "7", "--model", str(tmp_path / "m.gguf")]
    printed = run_plainly(
        "service", "print", "--kind", "systemd", *given, ATOLL_STORE=str(tmp_path)
    )
    assert printed.code == 0, printed.err
    assert exec_start(printed.out) == [
        *program(),
        "join",
        f"--home={tmp_path / 'home'}",
        f"--store={tmp_path}",
        "--name=a b",
        f"--model={tmp_path}/m.gguf",
        "--own-cores",
        "--port=7",
    ]
    assert "has joined no gateway yet" in printed.err
    assert "systemctl --user enable --now atoll-node.service" in printed.err


def test_a_node_that_only_lends_memory(run: Run) -> None:
    printed = run("service", "print", "--kind", "systemd", "--memory-only", "64MB")
    assert printed.code == 0, printed.err
    assert exec_start(printed.out)[-1] == "--memory-only=64MB"
    refused = run("service", "print", "--kind", "systemd", "--memory-only", "much")
    assert refused.code == 2
    assert "is not a size" in refused.err


def test_variables_come_along_and_secrets_do_not(run: Run, tmp_path: Path) -> None:
    secret = {"HF_TOKEN": "hf_hush", "ATOLL_API_KEY": "atoll-hush"}
    printed = run("service", "print", "--kind=systemd", HF_ENDPOINT="https://hub.test", **secret)
    assert "Environment=HF_ENDPOINT=https://hub.test\n" in printed.out
    assert f"Environment=ATOLL_CONFIG={tmp_path / 'home' / 'no-settings.toml'}\n" in printed.out
    assert "hush" not in printed.out


def test_a_service_of_the_system_runs_as_the_homes_owner(run: Run, tmp_path: Path) -> None:
    printed = run("service", "print", "--system", "--kind=systemd", "--home", str(tmp_path))
    assert f"User={ME}\n" in printed.out
    assert f"--store={tmp_path}" in exec_start(printed.out)
    assert "/etc/systemd/system/atoll-node.service" in printed.err


@pytest.mark.parametrize(
    ("more", "owner", "place"),
    [((), None, "~/Library/LaunchAgents"), (("--system",), ME, "/Library/LaunchDaemons")],
)
def test_for_launchd(run: Run, more: tuple[str, ...], owner: str | None, place: str) -> None:
    printed = run("service", "print", "--kind", "launchd", *more)
    entries = plistlib.loads(printed.out.encode())
    assert entries["ProgramArguments"][: len(program()) + 1] == [*program(), "join"]
    assert entries.get("UserName") == owner
    assert f"{place}/atoll.node.plist" in printed.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to somebody")
def test_an_owner_without_a_name(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "given"
    home.mkdir()
    os.chown(home, 54321, -1)
    refused = run("service", "print", "--system", "--home", str(home))
    assert refused.code == 2
    assert "user id 54321, which has no name" in refused.err


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--kind=openrc", "openrc"),
        ("--name=a\nUser=root", "cannot stand"),
        ("--cache-max=lots", "is not a size"),
        ("--gpu=all", "neither auto, none"),
        ("--user", "--user"),
    ],
)
def test_bad_options(run: Run, option: str, problem: str) -> None:
    refused = run("service", "print", option)
    assert (refused.code, refused.out) == (2, "")
    assert problem in refused.err


def test_without_its_script_the_program_is_the_module(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    assert program() == (sys.executable, "-P", "-m", "atoll")


class Manager:
    """Does with a command what systemd does: it starts it again unless that is of no use."""

    def __init__(self, words: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        # As NoNewPrivileges and CapabilityBoundingSet of the unit.
        confined = ("setpriv", "--no-new-privs", "--bounding-set=-all")
        self._words = [*(confined if shutil.which("setpriv") else ()), *words]
        self._environment = environment
        self.log = log
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("w") as talk:
            return subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=talk,
                env=self._environment,
            )

    def wait_for(self, text: str) -> None:
        """Until it said this, starting it again where it ends before."""
        deadline = time.monotonic() + WAIT_S
        while text not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            code = self.process.poll()
            if code is not None:
                assert code not in FINAL_EXITS, self.log.read_text()
                self.process = self._start()
            time.sleep(0.05)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@contextmanager
def gateway(folder: Path, model: Path, store: Store) -> Iterator[tuple[Path, Path]]:
    """A gateway that waits for one node: its home, and the node's join file."""
    home, log = folder / "gateway", folder / "gateway.log"
    ports = ("--port", "0", "--link-port", "0", "--json")
    sizes = ("--nodes", "1", "--streams", "1", "--context", "256")
    arguments = ["serve", str(model), *ports, *sizes, "--plan", "equal"]
    arguments += ["--store", str(store.home)]
    with background(arguments, home, log) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        yield home, Path(json.loads(line)["join_files"][0])


def isolation(run: Run, home: Path) -> list[str]:
    """What the stage is not confined from."""
    found: list[list[str]] = []

    def is_up() -> bool:
        status = json.loads(run("status", "--json", home=home).out or "{}")
        rings = status.get("rings", ())
        found[:] = [stage["isolation_missing"] for ring in rings for stage in ring["stages"]]
        return bool(status.get("ready"))

    wait_until(is_up, "the ring")
    return found[0]


@pytest.mark.engine
@pytest.mark.network
@pytest.mark.long
def test_a_node_that_the_unit_starts_comes_back_as_itself(
    tmp_path: Path, demo_model: Path, test_store: Store, run: Run
) -> None:
    home = tmp_path / 'my "100%" $HOME'
    with gateway(tmp_path, demo_model, test_store) as (gateway_home, ticket):
        options = ["--home", str(home), "--store", str(test_store.home), "--model", str(demo_model)]
        environment = clean_environment(home)
        first = Manager(command("join", str(ticket), *options), tmp_path / "first.log", environment)
        first.wait_for("serving layers")
        before = isolation(run, gateway_home)
        assert first.end(signal.SIGTERM) == 0
        printed = run("service", "print", "--kind", "systemd", *options, home=home)
        assert "has joined no gateway yet" not in printed.err
        service = Manager(exec_start(printed.out), tmp_path / "service.log", environment)
        try:
            service.wait_for("serving layers")
            assert isolation(run, gateway_home) == before
            assert service.end(signal.SIGKILL) == -signal.SIGKILL
            service.log.write_text("")
            service.wait_for("joined as")
            register = Register(gateway_home / REGISTER_FILE)
            [node] = register.nodes()
            register.revoke(node.node)
            # Sent away, and not let in again: nothing that a manager should try.
            assert service.process.wait(timeout=30) == FINAL_EXITS[-1]
            assert run("join", *options, home=home).code == FINAL_EXITS[-1]
        finally:
            service.process.kill()
            service.process.wait(timeout=30)
