"""What a machine measured before, in its home: used again while nothing has changed.

HOME/probe.json   readable by its owner alone

A file that cannot be read counts as empty and is written anew: measuring again
costs seconds.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from atoll.domain.ids import ModelId
from atoll.domain.measure import Measured, answer_problem
from atoll.net.private_file import PrivateFileFault, read_private, write_private

log = logging.getLogger(__name__)

PROBE_FILE = "probe.json"
ENTRIES_MAX = 32
"""The oldest goes when there is another one."""
FILE_BYTES_MAX = 1 << 20


class ProbeKey(msgspec.Struct, frozen=True):
    """All that a measurement depends on: with equal keys it is used again.

    `short` and `long` are the layers that were timed, `library` is the path of the
    engine's library.
    """

    model: ModelId
    engine_build: str
    library: str
    device: str
    threads: int
    threads_large: int
    spin: int | None
    rows: tuple[int, ...]
    short: tuple[int, int]
    long: tuple[int, int] | None


class _Entry(msgspec.Struct, frozen=True):
    key: ProbeKey
    measured: Measured


class _File(msgspec.Struct, frozen=True):
    entries: tuple[_Entry, ...] = ()


class ProbeCache:
    """The file at `path`, read and written whole each time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, key: ProbeKey) -> Measured | None:
        """What was measured under this key; None if nothing was."""
        found = next((e.measured for e in self._read() if e.key == key), None)
        if found is not None and (problem := answer_problem(found, key.model, key.rows)):
            log.warning("probe.kept_nonsense problem=%s", problem)
            return None
        return found

    def keep(self, key: ProbeKey, measured: Measured) -> None:
        """Remember it; a failure to write is logged, and it is measured again next time."""
        others = [entry for entry in self._read() if entry.key != key]
        self._write([*others, _Entry(key, measured)][-ENTRIES_MAX:])

    def forget(self, key: ProbeKey) -> None:
        """It no longer holds: the next who looks for it measures."""
        before = self._read()
        left = [entry for entry in before if entry.key != key]
        if len(left) < len(before):
            self._write(left)

    def _read(self) -> tuple[_Entry, ...]:
        try:
            return msgspec.json.decode(
                read_private(self._path, bytes_max=FILE_BYTES_MAX), type=_File
            ).entries
        except FileNotFoundError:
            return ()
        except (PrivateFileFault, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("probe.unreadable file=%s problem=%s", self._path.name, error)
            return ()

    def _write(self, entries: list[_Entry]) -> None:
        content = msgspec.json.encode(_File(tuple(entries)))
        try:
            write_private(self._path, content, replace=True)
        except PrivateFileFault as error:
            log.warning("probe.not_kept problem=%s", error)
