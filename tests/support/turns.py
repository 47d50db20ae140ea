"""Tests in several processes at once: one that is marked `alone` has the machine to itself.

`make test` runs processes of tests beside each other (docs/adr/0014). Most tests
stand that. One that holds what it sees to a short time, or measures this machine,
would see the others' tests too; it waits until they are done, and they until it is.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOM, QUEUE = "room.lock", "queue.lock"
"""Files in the folder of a run: who runs a test holds the first, who waits to the second."""


class Turns:
    """The turns of one process that runs tests; `folder` is the whole run's.

    Locks end with their process, so that one that crashes stops nobody.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._room = ExitStack()
        self._stays = False

    @contextmanager
    def turn(self, *, alone: bool, keep: bool = False) -> Iterator[None]:
        """Run a test inside the block, beside others or `alone`.

        With `keep` the next test has the same turn, and nothing is waited for between the two.
        """
        if not self._stays:
            self._enter(alone=alone)
        self._stays = keep
        try:
            yield
        finally:
            if not self._stays:
                self._room.close()

    def _enter(self, *, alone: bool) -> None:
        room = self._room.enter_context((self._folder / ROOM).open("wb"))
        with (self._folder / QUEUE).open("wb") as queue:
            # Nobody overtakes who waits, or one that is to be alone would wait for ever.
            fcntl.flock(queue, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
