"""Asking people, on a real terminal, a pipe and a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.cli import ask
from atoll.domain.errors import BadRequest

ASK = "from atoll.cli.ask import ask; print(ask('Well?'))"
WAIT_YES = """
import asyncio
from atoll.cli.ask import wait_yes
print(asyncio.run(wait_yes('Well?')))
"""
WAIT_THREE = """
import asyncio
from atoll.cli.ask import wait_line
async def main():
    print([await wait_line(), await wait_line(), await wait_line()])
asyncio.run(main())
"""
STOP_WAITING = """
import asyncio, uvloop
from atoll.cli.ask import wait_yes
async def main():
    try:
        async with asyncio.timeout(0.05):
            await wait_yes('Well?')
    except TimeoutError:
        print('taken back')
uvloop.run(main())
"""


def at_terminal(code: str, typed: bytes) -> str:
    """What a program prints whose standard input is a terminal."""
    ours, theirs = os.openpty()
    try:
        os.write(ours, typed)
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("code", [ASK, WAIT_YES])
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (b"y\n", "True"),
        (b" YES \n", "True"),
        (b"\n", "False"),
        (b"n\n", "False"),
        (b"yo\n", "False"),
    ],
)
def test_only_yes_is_yes(code: str, typed: bytes, expected: str) -> None:
    assert at_terminal(code, typed) == expected


def test_a_question_can_be_taken_back() -> None:
    assert at_terminal(STOP_WAITING, b"") == "taken back"


def after(content: bytes, *, file: Path | None = None) -> bytes:
    """What a program prints that reads three lines of a pipe, or of a file."""
    if file is None:
        done = subprocess.run(
            [sys.executable, "-c", WAIT_THREE],
            input=content,
            capture_output=True,
            timeout=30,
            check=False,
        )
    else:
        file.write_bytes(content)
        with file.open("rb") as opened:
            done = subprocess.run(
                [sys.executable, "-c", WAIT_THREE],
                stdin=opened,
                capture_output=True,
                timeout=30,
                check=False,
            )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_lines_come_one_by_one(tmp_path: Path) -> None:
    content, expected = b"123 456\nrest", rb"['123 456\n', 'rest', '']"
    assert after(content) == expected
    assert after(content, file=tmp_path / "lines") == expected


def test_an_endless_line_ends() -> None:
    assert after(b"x" * 20_000).startswith(b"['xxxx")


def test_nobody_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "has_terminal", lambda: False)
    with pytest.raises(BadRequest, match="no terminal") as caught:
        ask.check_terminal("whether it is so", "say so")
    assert caught.value.hint == "say so"
    monkeypatch.setattr(ask, "has_terminal", lambda: True)
    ask.check_terminal("whether it is so", "say so")
