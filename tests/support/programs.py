"""The programs of a ring on hosts of an emulated internet, each as its user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.forks import run_forked
from tests.support.namespaces import Host

from atoll.api.keys import KEYS_FILE, KeyStore

RELAY_PORT = 8644
ELSEWHERE = Path(__file__).with_name("elsewhere.py")
WAIT_S = 45.0
_ASK = """
import json, sys, httpx
url, key, body = sys.argv[1:]
reply = httpx.post(
    url + "/v1/completions", json=json.loads(body), timeout=60,
    headers={"authorization": "Bearer " + key},
)
print(json.dumps({"status": reply.status_code, "body": reply.json()}))
"""


@dataclass
class Program:
    """One that runs, and what it said."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_said(self, words: str) -> None:
        wait_until(lambda: words in self.said, words, self)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(20)


def wait_until(condition: Callable[[], object], what: str, *programs: Program) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        said = "\n".join(f"{p.log.name}: {p.said[-1500:]}" for p in programs)
        assert time.monotonic() < deadline_s, f"{what!r} did not come about\n{said}"
        failed = [p.log.name for p in programs if p.process.poll()]
        assert not failed, f"{failed} ended before {what!r}\n{said}"
        time.sleep(0.02)


@dataclass
class Programs:
    """All of them; `folder` holds a home and a log for each, by its name."""

    folder: Path
    model: Path
    stack: ExitStack = field(default_factory=ExitStack)
    key: str = ""
    gateway_host: Host | None = None
    nodes: dict[str, Program] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The gateway's."""
        return self.folder / "gateway"

    def start(
        self,
        host: Host,
        name: str,
        *arguments: str,
        home: Path | None = None,
        machine: str = "",
    ) -> Program:
        """Run `atoll ARGUMENTS` on a host, which is a machine of its own if that is named."""
        program = (str(ELSEWHERE), machine) if machine else ("-m", "atoll")
        words = host.command(sys.executable, "-P", *program, *arguments)
        log = self.folder / f"{name}.log"
        with log.open("a") as talk:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=talk,
                stderr=talk,
                text=True,
                env=self._environment(home or self.folder / name),
            )
        started = Program(process, log)
        self.stack.callback(self._end, process)
        return started

    def _environment(self, home: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "ATOLL" not in name}
        settings = self.folder / "no-settings.toml"
        settings.touch()
        store = self.folder / "store"
        return {
            **kept,
            "ATOLL_HOME": str(home),
            "ATOLL_CONFIG": str(settings),
            "ATOLL_STORE": str(store),
        }

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.kill()
        process.wait()

    def relay(self, host: Host) -> Program:
        """`atoll relay` with the gateway's home."""
        words = ("relay", "--host", "0.0.0.0", "--port", str(RELAY_PORT))
        program = self.start(host, "relay", *words, home=self.home)
        program.wait_said("relaying at")
        return program

    def gateway(self, host: Host, nodes: int, *arguments: str, plan: str = "equal") -> Program:
        """`atoll serve`, once nodes can join.

        All nodes are one host, and are to be seen at work: the plan is of equal parts.
        """
        self.key = KeyStore(self.home / KEYS_FILE).create("test").secret
        self.gateway_host = host
        program = self.start(
            host,
            "gateway",
            *("serve", str(self.model), "--nodes", str(nodes), "--link-host", "0.0.0.0"),
            *("--plan", plan),
            *("--streams", "2", "--context", "256", "--threads", "1", "--threads-large", "1"),
            *("--json", *arguments),
        )
        program.wait_said('"join_files"')
        return program

    def invite(self) -> str:
        """A ticket that `atoll invite` made."""
        code, ticket, problem = run_forked(["invite"], self._environment(self.home), "", WAIT_S)
        assert code == 0, problem
        return ticket.strip()

    def join(self, host: Host, name: str, ticket: str = "", *, machine: str = "") -> Program:
        """`atoll join`; without a ticket, as a machine that joined before."""
        words = ("join", *((ticket,) if ticket else ()), "--model", str(self.model))
        threads = ("--threads", "1", "--threads-large", "1", "--name", name)
        program = self.start(host, name, *words, *threads, machine=machine)
        self.nodes[name] = program
        return program

    def wait_serving(self, times: int = 1) -> None:
        """Until every node has said, for the so many-th time, that it serves."""
        wait_until(
            lambda: all(n.said.count("serving layers") >= times for n in self.nodes.values()),
            "the ring",
            *self.nodes.values(),
        )

    def ask(self, prompt: str, tokens: int) -> dict[str, Any]:
        """Ask the API for a completion, from the gateway's own host."""
        assert self.gateway_host is not None
        body = {
            "model": self.model.stem,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "exact": True,
            "ignore_eos": True,
        }
        url = "http://127.0.0.1:8642"
        words = (sys.executable, "-c", _ASK, url, self.key, json.dumps(body))
        done = subprocess.run(
            self.gateway_host.command(*words), capture_output=True, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def status(self) -> dict[str, Any]:
        """What `atoll status --json` shows."""
        assert self.gateway_host is not None
        words = (sys.executable, "-P", "-m", "atoll", "status", "--json")
        done = subprocess.run(
            self.gateway_host.command(*words),
            capture_output=True,
            text=True,
            check=True,
            env=self._environment(self.home),
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@contextmanager
def open_programs(folder: Path, model: Path) -> Iterator[Programs]:
    """No program yet; all that were started end with the context."""
    with ExitStack() as stack:
        yield Programs(folder, model, stack)
