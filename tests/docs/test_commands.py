"""Every `atoll` command line shown in README and docs is one the command takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from atoll.cli.app import COMMANDS, DEFAULTS, GROUPS, make_app

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts),
]
FENCE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(atoll [^`\n]+)`")
CALL = re.compile(r"(?:^|\| )\s*(atoll [a-z].*)")


def calls(page: Path) -> list[str]:
    """Command lines of a page, from its blocks and its running text."""
    text = page.read_text("utf-8")
    blocks = "\n".join(FENCE.findall(text)).replace("\\\n", " ")
    shown = [match[1] for line in blocks.splitlines() if (match := CALL.search(line))]
    return shown + SPAN.findall(FENCE.sub("", text))


def options_of(command: str, rest: list[str]) -> tuple[set[str], list[str]]:
    """Options a command takes, and its arguments without the name of a subcommand."""
    app = make_app([command])[command]
    if command in GROUPS and not (command in DEFAULTS and rest[0] not in GROUPS[command]):
        app, rest = app[rest[0]], rest[1:]
    names = {name for argument in app.assemble_argument_collection() for name in argument.names}
    return names | {"--help"}, rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    for call in calls(page):
        command, *rest = shlex.split(call, comments=True)[1:]
        assert command in COMMANDS, call
        if command in GROUPS and not rest:
            continue
        known, rest = options_of(command, rest)
        named = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert named <= known, call


def test_calls_are_found() -> None:
    found = calls(ROOT / "README.md")
    assert any(call.startswith("atoll join") for call in found)
    assert any(call.startswith("atoll serve") and "--nodes" in call for call in found)
