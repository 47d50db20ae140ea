"""A real ring for the commands' tests: `atoll serve` and two `atoll join`, as processes."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tests.conftest import MakeModel
from tests.support.forks import can_fork, run_forked

from atoll.net.ticket import Ticket
from atoll.store.layout import Store

NODES = 2
WAIT_S = 90.0
RUN_S = 120.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "atoll", *arguments]


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without settings of its user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATOLL_")}
    settings = home / "no-settings.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.touch()
    return {**kept, "ATOLL_HOME": str(home), "ATOLL_CONFIG": str(settings), **more}


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Commands that run in this process set logging up; others have their own."""
    root = logging.getLogger("atoll")
    before = (root.handlers[:], root.level, root.propagate)
    yield
    root.handlers[:], root.level, root.propagate = before


@dataclass(frozen=True)
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


def run_to_its_end(arguments: Sequence[str], environment: dict[str, str], stdin: str = "") -> Ran:
    """Run `atoll ARGUMENTS`, forked where the system can (`tests/support/forks.py`)."""
    if not can_fork():
        return run_from_the_start(arguments, environment, stdin)
    return Ran(*run_forked(arguments, environment, stdin, RUN_S))


def run_from_the_start(
    arguments: Sequence[str], environment: dict[str, str], stdin: str = ""
) -> Ran:
    """Run `atoll ARGUMENTS` in a Python that has imported nothing yet, as a user's."""
    done = subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
        env=environment,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def _runs(folder: Path, way: Callable[[Sequence[str], dict[str, str], str], Ran]) -> Run:
    def run_command(*arguments: str, home: Path | None = None, stdin: str = "", **env: str) -> Ran:
        return way(arguments, clean_environment(home or folder / "home", **env), stdin)

    return run_command


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `atoll ARGUMENTS` to its end, in a home of its own unless `home` is given.

    Each command has a test that uses `run_plainly`, or starts it in the `background`.
    """
    return _runs(tmp_path, run_to_its_end)


@pytest.fixture
def run_plainly(tmp_path: Path) -> Run:
    """As `run`, from the start."""
    return _runs(tmp_path, run_from_the_start)


@contextmanager
def background(
    arguments: Sequence[str], home: Path, log: Path, stdin: str | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run `atoll ARGUMENTS` inside the block; its talk goes to `log`."""
    with log.open("w") as talk:
        process = subprocess.Popen(
            command(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=talk,
            text=True,
            env=clean_environment(home),
        )
    try:
        assert process.stdin is not None
        if stdin is not None:
            process.stdin.write(stdin)
            process.stdin.close()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        finally:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def wait_until(condition: Callable[[], bool], what: str, log: Path | None = None) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        said = log.read_text() if log else ""
        assert time.monotonic() < deadline, f"{what} did not come about: {said}"
        time.sleep(0.05)


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all it started."""
    return [process, *process.children(recursive=True)]


@dataclass(frozen=True)
class LiveRing:
    """The ring of these tests; `home` is the gateway's."""

    home: Path
    url: str
    opened: dict[str, object]
    gateway: psutil.Process
    nodes: tuple[psutil.Process, ...]
    invitations: tuple[str, ...]
    gateway_log: Path
    node_logs: tuple[Path, ...]

    @property
    def secrets(self) -> list[str]:
        """The nodes' join secrets."""
        return [Ticket.parse(invitation).secret for invitation in self.invitations]


@contextmanager
def live_ring(folder: Path, model: Path, store: Store, *, address: str = "") -> Iterator[LiveRing]:
    """Start a gateway and its nodes; the second node gets its secret by standard input.

    With the model's `address` the nodes have stores of their own, and fetch from there.
    """
    home, ready = folder / "gateway", folder / "ready"
    places = ["--store", str(store.home)]
    with ExitStack() as running:
        serve = running.enter_context(
            background(
                [
                    *("serve", str(model), "--nodes", str(NODES), "--port", "0", "--json"),
                    *("--plan", "equal"),
                    *("--link-port", "0"),
                    *("--ready-file", str(ready), "--streams", "2", "--context", "512", *places),
                ],
                home,
                folder / "gateway.log",
            )
        )
        assert serve.stdout is not None
        line = serve.stdout.readline()
        assert line, (folder / "gateway.log").read_text()
        opened = json.loads(line)
        files = [Path(file) for file in opened["join_files"]]
        invitations = tuple(file.read_text() for file in files)
        nodes = []
        for number, file in enumerate(files):
            by_file = number == 0
            arguments = ["join", str(file) if by_file else "-", "--name", f"node-{number}"]
            arguments += ["--threads", "1", "--threads-large", "1"]
            arguments += ["--model", address] if address else ["--model", str(model), *places]
            join = running.enter_context(
                background(
                    arguments,
                    folder / f"node-{number}",
                    folder / f"node-{number}.log",
                    None if by_file else invitations[number],
                )
            )
            nodes.append(psutil.Process(join.pid))
        wait_until(ready.exists, "the ring", folder / "gateway.log")
        yield LiveRing(
            home=home,
            url=opened["url"],
            opened=opened,
            gateway=psutil.Process(serve.pid),
            nodes=tuple(nodes),
            invitations=invitations,
            gateway_log=folder / "gateway.log",
            node_logs=tuple(folder / f"node-{number}.log" for number in range(len(nodes))),
        )


@pytest.fixture(scope="session")
def small_model(random_model: MakeModel) -> Path:
    """A model for rings that need not say anything."""
    return random_model("llama", n_layers=6)


@pytest.fixture(scope="package")
def ring(
    tmp_path_factory: pytest.TempPathFactory, demo_model: Path, test_store: Store
) -> Iterator[LiveRing]:
    """One ring for all tests that only ask it."""
    with live_ring(tmp_path_factory.mktemp("ring"), demo_model, test_store) as running:
        yield running
