"""What was sent to the next part of the ring, kept until nobody can want it again.

A stage that takes the place of a lost one computes its caches from these bytes (design
section 6). They lie in memory and, beyond a bound, on the disk, encrypted under a key that
is nowhere but here. What there is no room for is let go: its session then starts over from
its tokens.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atoll.domain.ids import SessionId
from atoll.domain.wire import Window, row_parts
from atoll.node.keeping import FILE_MODE, FOLDER_MODE

log = logging.getLogger(__name__)

RAM_BYTES = 256 * 1024**2
DISK_BYTES = 4 * 1024**3
NONCE_BYTES = 12
SPILL_ROWS = 256
"""Rows that go to the disk together."""


@dataclass(slots=True)
class _Rows:
    """Rows of one session: values and, behind them on the wire, what scales them.

    Those before `spilled` are on the disk, `pieces` of so many rows each.
    """

    encoding: str
    bodies: bytearray = field(default_factory=bytearray)
    tails: bytearray = field(default_factory=bytearray)
    spilled: int = 0
    pieces: list[tuple[int, Path]] = field(default_factory=list)

    @property
    def ram_bytes(self) -> int:
        """What it takes in memory."""
        return len(self.bodies) + len(self.tails)


class BoundaryRecord:
    """The rows of each session, at positions 0, 1, ... as they were sent last.

    Args:
        n_embd: Width of a row.
        lost: Told of a session whose rows had to go.
        ram_bytes: Most bytes in memory.
        folder: Where further ones lie, for this record alone; None: nowhere.
        disk_bytes: Most bytes there.
    """

    def __init__(
        self,
        n_embd: int,
        lost: Callable[[SessionId], None],
        *,
        ram_bytes: int = RAM_BYTES,
        folder: Path | None = None,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        self._n_embd = n_embd
        self._lost = lost
        self._ram_bytes_max, self._disk_bytes_max = ram_bytes, disk_bytes
        self._folder = folder
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._written = 0
        # Who sent last comes last.
        self._held: OrderedDict[SessionId, _Rows] = OrderedDict()
        self.ram_bytes = self.disk_bytes = 0

    def keep(self, window: Window, payload: bytes) -> None:
        """A window is sent: its rows count from now on, and none behind them."""
        session = window.session
        held = self._held.get(session)
        if held is None or held.encoding != window.encoding or not window.keep:
            self.drop(session)
            held = self._held[session] = _Rows(window.encoding)
        self._held.move_to_end(session)
        body, tail = self._sizes(window.encoding)
        if not self._roll_back(session, held, window.keep, (body, tail)):
            return
        before = held.ram_bytes
        cut = window.rows * body
        held.bodies += payload[:cut]
        held.tails += payload[cut:]
        self.ram_bytes += held.ram_bytes - before
        while self.ram_bytes > self._ram_bytes_max:
            self._make_room()

    def rows(self, window: Window) -> bytes | None:
        """The payload of a window that is sent again; None: it is not here (any more)."""
        held = self._held.get(window.session)
        if held is None or held.encoding != window.encoding:
            return None
        return self._read(held, window.keep, window.rows)

    def drop(self, session: SessionId) -> None:
        """Nothing of a session is wanted again."""
        held = self._held.pop(session, None)
        if held is not None:
            self.ram_bytes -= held.ram_bytes
            self._remove(held.pieces)

    def clear(self) -> None:
        """Nothing is wanted again."""
        for session in list(self._held):
            self.drop(session)

    def close(self) -> None:
        """Forget everything, and remove the folder."""
        self.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, held: _Rows, keep: int, rows: int) -> bytes | None:
        body, tail = self._sizes(held.encoding)
        try:
            bodies, tails = self._spilled(held, keep, (body, tail))
        except (OSError, InvalidTag) as error:
            log.warning("record.unreadable error=%s", error)
            return None
        at = max(0, keep - held.spilled)
        end = at + rows
        bodies, tails = bodies + held.bodies, tails + held.tails
        found = bytes(bodies[at * body : end * body] + tails[at * tail : end * tail])
        return found if len(found) == rows * (body + tail) else None

    def _sizes(self, encoding: str) -> tuple[int, int]:
        return row_parts(encoding, self._n_embd)

    def _roll_back(
        self, session: SessionId, held: _Rows, keep: int, sizes: tuple[int, int]
    ) -> bool:
        """Forget rows from position `keep` on; False: what comes before it is not here."""
        body, tail = sizes
        if keep < held.spilled:
            rows = self._read(held, 0, keep) if keep else b""
            self.ram_bytes -= held.ram_bytes
            self._remove(held.pieces)
            held.pieces, held.spilled = [], 0
            held.bodies, held.tails = bytearray(), bytearray()
            if rows is None:
                self._let_go(session)
                return False
            held.bodies += rows[: keep * body]
            held.tails += rows[keep * body :]
            self.ram_bytes += held.ram_bytes
        here = held.spilled + len(held.bodies) // body
        if keep > here:
            # What came before was never sent: the session began with a parcel.
            self._let_go(session)
            return False
        before = held.ram_bytes
        del held.bodies[(keep - held.spilled) * body :]
        del held.tails[(keep - held.spilled) * tail :]
        self.ram_bytes -= before - held.ram_bytes
        return True

    def _make_room(self) -> None:
        """Move rows of who sent least lately to the disk, or let its session's go."""
        session = next((s for s, held in self._held.items() if held.bodies), None)
        if session is None:
            return
        if not self._spill(self._held[session]):
            self._let_go(session)

    def _spill(self, held: _Rows) -> bool:
        if self._folder is None:
            return False
        body, tail = self._sizes(held.encoding)
        rows = min(SPILL_ROWS, len(held.bodies) // body)
        data = bytes(held.bodies[: rows * body] + held.tails[: rows * tail])
        self._written += 1
        nonce = self._written.to_bytes(NONCE_BYTES, "big")
        path = self._folder / str(self._written)
        if self.disk_bytes + len(data) > self._disk_bytes_max:
            return False
        try:
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
            with os.fdopen(fd, "wb") as file:
                file.write(nonce + self._cipher.encrypt(nonce, data, None))
        except OSError as error:
            log.warning("record.not_written error=%s", error)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return False
        held.pieces.append((rows, path))
        held.spilled += rows
        self.disk_bytes += len(data)
        self.ram_bytes -= len(data)
        del held.bodies[: rows * body], held.tails[: rows * tail]
        return True

    def _spilled(self, held: _Rows, keep: int, sizes: tuple[int, int]) -> tuple[bytes, bytes]:
        """Rows from `keep` on that are on the disk.

        Raises:
            OSError: They cannot be read.
            InvalidTag: They are not what was written.
        """
        if keep >= held.spilled:
            return b"", b""
        body, _ = sizes
        bodies, tails, at = b"", b"", 0
        for rows, path in held.pieces:
            if at + rows > keep:
                sealed = path.read_bytes()
                data = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
                bodies, tails = bodies + data[: rows * body], tails + data[rows * body :]
                skipped = max(0, keep - at)
                bodies, tails = bodies[skipped * body :], tails[skipped * sizes[1] :]
            at += rows
        return bodies, tails

    def _let_go(self, session: SessionId) -> None:
        self.drop(session)
        self._lost(session)

    def _remove(self, pieces: list[tuple[int, Path]]) -> None:
        for _, path in pieces:
            try:
                self.disk_bytes -= path.stat().st_size - NONCE_BYTES - 16
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("record.not_removed error=%s", error)
