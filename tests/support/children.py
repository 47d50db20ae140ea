"""The processes that a test started, told apart from those that other tests keep up.

A test that asks marks itself `usefixtures("own_children")`, so that the count
begins before its other fixtures start anything.
"""

from __future__ import annotations

import psutil
from tests.support.forks import server_pid

_before: set[psutil.Process] = set()


def note_children() -> None:
    """Remember what runs below this process; `new_children` leaves it out."""
    _before.clear()
    _before.update(psutil.Process().children(recursive=True))


def new_children() -> list[psutil.Process]:
    """Processes below this one, however deep, that began since `note_children`.

    What the fork server forked counts; it itself stays until the last test is done.
    """
    children = psutil.Process().children(recursive=True)
    return [c for c in children if c not in _before and c.pid != server_pid()]


def is_running(pid: int) -> bool:
    """Whether a process lives; one that waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
