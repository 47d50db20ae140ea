"""What people see: data on standard output, talk on standard error."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

MIB = 1024 * 1024
Advance = Callable[[str, int, int | None], None]

PHASES = {
    "download": "Downloading",
    "unpack": "Unpacking",
    "copy": "Copying",
    "check": "Checking",
}


def talk_console() -> Console:
    """The console for talk."""
    return Console(stderr=True, highlight=False, markup=False)


def data_console() -> Console:
    """The console for tables, which are data. Wide where nobody watches, so that no cell is cut."""
    return _DataConsole(highlight=False, markup=False, width=None if sys.stdout.isatty() else 200)


class _DataConsole(Console):
    """Leaves it to the command line what to do when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def say(text: str) -> None:
    """Talk: one line or several."""
    print(printable(text), file=sys.stderr, flush=True)


def write(text: str) -> None:
    """A piece of an answer, as it comes; on a terminal without control characters."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def printable(text: str) -> str:
    """`text` with U+FFFD for control characters, by which a stranger's words could steer a
    terminal.
    """
    return "".join(c if c in "\n\t" or unicodedata.category(c) != "Cc" else "\ufffd" for c in text)


def show_json(value: object, *, pretty: bool = True) -> None:
    """One JSON value on standard output."""
    text = msgspec.json.encode(value)
    print((msgspec.json.format(text) if pretty else text).decode(), flush=True)


@contextmanager
def progress_bar() -> Iterator[Advance]:
    """A bar with bytes, rate and time left; silent where nobody watches."""
    console = talk_console()
    if not console.is_terminal:
        yield lambda _phase, _done, _total: None
        return
    with Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
    ) as bars:
        known: dict[str, TaskID] = {}

        def advance(phase: str, done: int, total: int | None) -> None:
            if phase not in known:
                known[phase] = bars.add_task(PHASES.get(phase, phase), total=total)
            bars.update(known[phase], completed=done, total=total)

        yield advance


@contextmanager
def steps_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar with steps done and time left; silent where nobody watches."""
    console = talk_console()
    if not console.is_terminal:
        yield lambda _what, _done, _total: None
        return
    with Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        # Drawing takes time from what is measured on the same machine.
        refresh_per_second=2,
    ) as bars:
        task = bars.add_task("", total=None)
        yield lambda what, done, total: bars.update(
            task, description=what, completed=done, total=total
        )


def megabytes(n_bytes: int) -> str:
    """Bytes as MiB, for tables."""
    return f"{n_bytes / MIB:.1f}"
