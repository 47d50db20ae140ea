"""`atoll chat` against a running ring: one answer, a conversation, a stop."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cli.conftest import LiveRing, Run, clean_environment, command

QUESTION = "Name three colors."


@pytest.mark.engine
@pytest.mark.network
class TestOneAnswer:
    def test_a_prompt_in_the_arguments(self, ring: LiveRing, run: Run) -> None:
        answered = run("chat", QUESTION, "--temperature", "0", home=ring.home)
        assert answered.code == 0, answered.err
        assert "Red" in answered.out
        assert answered.err == ""

    def test_a_prompt_on_standard_input(self, ring: LiveRing, run: Run) -> None:
        by_input = run("chat", "--temperature", "0", home=ring.home, stdin=QUESTION)
        assert "Red" in by_input.out

    def test_json(self, ring: LiveRing, run: Run) -> None:
        options = ("--json", "--max-tokens", "3", "--temperature", "0", "--system", "Be brief.")
        reply = json.loads(run("chat", QUESTION, *options, home=ring.home).out)
        assert reply["finish_reason"] == "length"
        assert reply["usage"]["completion_tokens"] == 3
        assert reply["answer"]

    def test_an_unknown_model(self, ring: LiveRing, run: Run) -> None:
        refused = run("chat", QUESTION, "--model", "other", home=ring.home)
        assert refused.code == 7
        assert "'other' is not served here" in refused.err

    def test_text_that_is_not_utf8(self, ring: LiveRing, run: Run) -> None:
        done = subprocess.run(
            command("chat"),
            input=b"\xff\xfe hi",
            capture_output=True,
            timeout=60,
            check=False,
            env=clean_environment(ring.home),
        )
        assert done.returncode == 2
        assert b"the text is not UTF-8" in done.stderr
        assert run("chat", os.fsdecode(b"caf\xe9"), home=ring.home).code == 2

    def test_nothing_to_say(self, ring: LiveRing, run: Run) -> None:
        refused = run("chat", home=ring.home, stdin=" \n")
        assert refused.code == 2
        assert "nothing to say" in refused.err


class Terminal:
    """`atoll chat` on a terminal of its own."""

    def __init__(self, home: Path, *, before: Sequence[str] = ()) -> None:
        self._screen, inner = pty.openpty()
        self.process = subprocess.Popen(
            [*before, *command("chat", "--temperature", "0")],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=clean_environment(home, TERM="dumb"),
            start_new_session=True,
        )
        os.close(inner)
        os.set_blocking(self._screen, False)
        self.seen = ""

    def wait_for(self, text: str) -> str:
        """Read until `text` is on the screen; returns what is up to its end."""
        deadline = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            try:
                self.seen += os.read(self._screen, 65536).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:
                # Linux ends a terminal whose program is gone so.
                break
        head, found, self.seen = self.seen.partition(text)
        assert found, head
        return head + found

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)
        os.close(self._screen)


@pytest.mark.engine
@pytest.mark.network
def test_a_conversation(ring: LiveRing) -> None:
    terminal = Terminal(ring.home)
    try:
        terminal.wait_for("Ctrl-D leaves")
        terminal.wait_for("> ")
        terminal.type(f"{QUESTION}\n")
        assert "Red" in terminal.wait_for("> ")
        terminal.type("Tell me a very long story about it.\n")
        terminal.wait_for("about it.")
        terminal.wait_for(" ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("(stopped)")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.process.wait(timeout=20) == 0
    finally:
        terminal.close()


@pytest.mark.engine
@pytest.mark.network
def test_ctrl_c_counts_where_a_shell_had_it_ignored(ring: LiveRing) -> None:
    # So it is for whatever a script starts with '&', and for all below that.
    terminal = Terminal(ring.home, before=("sh", "-c", "trap '' INT; exec \"$@\"", "sh"))
    try:
        terminal.wait_for("> ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("> ")
        terminal.type("Tell me a very long story.\n")
        terminal.wait_for("story.")
        terminal.wait_for(" ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("(stopped)")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.process.wait(timeout=20) == 0
    finally:
        terminal.close()


@pytest.mark.engine
@pytest.mark.network
def test_a_stopped_answer_frees_its_place(ring: LiveRing, run: Run) -> None:
    deadline = time.monotonic() + 20
    while json.loads(run("status", "--json", home=ring.home).out)["active"]:
        assert time.monotonic() < deadline
