"""What reaches a screen."""

from __future__ import annotations

import contextlib
import os
import pty

import msgspec
import pytest

from atoll.cli.screen import megabytes, printable, progress_bar, say, show_json, steps_bar, write


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext é 潮", "plain\n\ttext é 潮"),
        ("\x1b[2Jgone", "\ufffd[2Jgone"),
        ("bell\x07 back\x08 c1\x9b", "bell\ufffd back\ufffd c1\ufffd"),
        ("a\rb", "a\ufffdb"),
    ],
)
def test_control_characters_do_not_reach_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_data_and_talk_go_apart(capsys: pytest.CaptureFixture[str]) -> None:
    say("talk \x1b[1m")
    write("data \x1b[1m")
    show_json({"a": 1}, pretty=False)
    shown = capsys.readouterr()
    assert shown.err == "talk \ufffd[1m\n"
    # A pipe gets what was said, to the byte.
    assert shown.out == 'data \x1b[1m{"a":1}\n'


def test_structs_become_json(capsys: pytest.CaptureFixture[str]) -> None:
    class Reply(msgspec.Struct):
        name: str

    show_json([Reply("x")])
    assert msgspec.json.decode(capsys.readouterr().out) == [{"name": "x"}]


def test_there_is_no_bar_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as advance:
        advance("download", 1, 2)
    with steps_bar() as step:
        step("tg128", 1, 2)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def read_all(screen: int) -> bytes:
    """What was written to a terminal whose other end is closed by now."""
    parts = []
    with contextlib.suppress(OSError):
        while part := os.read(screen, 1 << 16):
            parts.append(part)
    return b"".join(parts)


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, inner = pty.openpty()
    try:
        with os.fdopen(inner, "w") as terminal:
            monkeypatch.setattr("sys.stderr", terminal)
            monkeypatch.setenv("TERM", "xterm")
            with progress_bar() as advance:
                advance("download", 1 << 20, 2 << 20)
                advance("download", 2 << 20, 2 << 20)
                advance("check", 5, None)
            with steps_bar() as step:
                step("tg128 @ d512", 3, 7)
        shown = read_all(screen).decode()
    finally:
        os.close(screen)
    assert "Downloading" in shown
    assert "2.0/2.0 MiB" in shown
    assert "Checking" in shown
    assert "tg128 @ d512" in shown
    assert "3/7" in shown


def test_megabytes() -> None:
    assert megabytes(3 << 19) == "1.5"
