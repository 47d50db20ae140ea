"""`atoll demo` as its user sees it, and what it leaves: nothing."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import psutil
import pytest
from rich.console import Console
from tests.cli.conftest import clean_environment, command, family
from tests.demo.test_result import RESULT

from atoll.cli.demo import stage_table
from atoll.store.layout import Store

pytestmark = [pytest.mark.engine, pytest.mark.network]


class Demo:
    """`atoll demo` as a process, with a folder of its own for what it writes."""

    def __init__(self, folder: Path, store: Store, model: Path, *more: str, tokens: int) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.log = folder / "log"
        with self.log.open("w") as talk:
            self.process = subprocess.Popen(
                command(
                    *("demo", "--model", str(model), "--store", str(store.home)),
                    *("--prompt", "Name three colors.", *more),
                    *("--max-tokens", str(tokens)),
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=talk,
                text=True,
                env=clean_environment(folder / "home", TMPDIR=str(self.temporary)),
                start_new_session=True,
            )
        self.seen: set[psutil.Process] = set()

    def wait_said(self, text: str) -> str:
        """Wait until its talk holds `text`; remembers all processes on the way."""
        deadline = time.monotonic() + 90
        while text not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            self.look()
            time.sleep(0.05)
        self.look()
        return self.log.read_text()

    def look(self) -> None:
        self.seen.update(family(psutil.Process(self.process.pid)))

    def kill(self) -> None:
        """End it whatever it does; the programs it started see that and end."""
        self.process.kill()
        self.process.communicate(timeout=30)

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Wait for its end (after a signal) and check that nothing is left."""
        if number is not None:
            self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=90)
        _, alive = psutil.wait_procs(self.seen, timeout=15)
        assert not alive, alive
        assert list(self.temporary.iterdir()) == []
        return self.process.returncode, out


StartDemo = Callable[..., Demo]


@pytest.fixture
def start_demo(tmp_path: Path, test_store: Store, demo_model: Path) -> Iterator[StartDemo]:
    """Starts a demo of the demo model, or of another one."""
    started: list[Demo] = []

    def start(*arguments: str, tokens: int = 3, model: Path | None = None) -> Demo:
        store = Store(tmp_path / "store") if model else test_store
        started.append(Demo(tmp_path, store, model or demo_model, *arguments, tokens=tokens))
        return started[-1]

    yield start
    for demo in started:
        demo.kill()


@pytest.mark.long
def test_json_is_one_object(start_demo: StartDemo) -> None:
    demo = start_demo("--json")
    code, out = demo.end()
    result = json.loads(out)
    assert code == 0
    assert (result["equal"], result["compared"]) == (3, 3)
    assert len(result["stages"]) == 3


@pytest.mark.parametrize(
    ("number", "code", "moment"),
    [
        (signal.SIGINT, 130, "gateway: http"),
        (signal.SIGTERM, 143, "node-3: process"),
        (signal.SIGINT, 130, "the ring is up"),
    ],
)
def test_a_signal_at_any_time_leaves_nothing(
    number: signal.Signals,
    code: int,
    moment: str,
    start_demo: StartDemo,
    small_model: Path,
) -> None:
    demo = start_demo(model=small_model)
    demo.wait_said(moment)
    assert demo.end(number)[0] == code, demo.log.read_text()


@pytest.mark.long
def test_a_node_that_dies_ends_it(start_demo: StartDemo) -> None:
    demo = start_demo("--keep")
    said = demo.wait_said("stays up until Ctrl-C")
    found = re.search(r"node-2: process (\d+)", said)
    assert found is not None
    psutil.Process(int(found[1])).kill()
    code, _ = demo.end()
    assert code == 1
    assert "error: node-2 ended by signal 9" in demo.log.read_text()


def test_a_killed_demo_leaves_no_process(start_demo: StartDemo, small_model: Path) -> None:
    demo = start_demo(model=small_model)
    demo.wait_said("the ring is up")
    demo.process.kill()
    demo.process.communicate(timeout=30)
    _, alive = psutil.wait_procs(demo.seen, timeout=30)
    assert not alive, alive


def test_it_shows_the_answer_the_stages_and_the_check_and_can_be_talked_to(
    start_demo: StartDemo,
) -> None:
    demo = start_demo("--keep", tokens=8)
    demo.wait_said("comparing the ring's tokens")
    # The demo, gateway, ends, text, and three nodes with their stages.
    assert len([p for p in demo.seen if p.is_running()]) >= 4 + 6
    said = demo.wait_said("or here: atoll chat")
    found = re.search(r'OpenAI\(base_url="(\S+)", api_key="(\S+)"\)', said)
    assert found is not None
    name = re.search(r'"model": "(\S+)"', said)
    assert name is not None
    with openai.OpenAI(base_url=found[1], api_key=found[2]) as client:
        reply = client.chat.completions.create(
            model=name[1], messages=[{"role": "user", "content": "Hello"}], max_tokens=4
        )
    assert reply.choices[0].message.content
    curl = said[said.index("  curl") : said.index("or with the openai")]
    # As it says, but for a short answer.
    curl = curl.replace('"messages":', '"max_tokens": 4, "messages":')
    done = subprocess.run(
        ["bash", "-c", f"{curl.strip()} --silent --fail"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["usage"]["completion_tokens"] == 4
    code, out = demo.end(signal.SIGINT)
    assert code == 0, demo.log.read_text()
    assert "Red" in out
    for part in ("gateway", "node-1", "node-2", "node-3", "shard MiB", "tokens/s"):
        assert part in out
    assert "equal: 8 of 8" in out
    assert "nothing is left running" in demo.log.read_text()


def test_the_table_of_stages() -> None:
    out = io.StringIO()
    Console(file=out, width=120, markup=False).print(stage_table(RESULT))
    text = out.getvalue()
    for part in ("gateway", "0, 29", "200.0", "reef", "1-28", "50.0", "90.0", "7.25"):
        assert part in text
