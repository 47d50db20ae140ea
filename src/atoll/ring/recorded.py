"""Which rows of each session the sender of a boundary has kept.

Pure: the bytes lie with the driver, which keeps what it sends and tells when it had to
let a session's go.
"""

from __future__ import annotations

from collections.abc import Iterator

from atoll.domain.ids import SessionId


class Recorded:
    """Positions [0, n) of each session, as they were sent last."""

    def __init__(self) -> None:
        self._rows: dict[SessionId, int] = {}

    def rows(self, session: SessionId) -> int:
        """How many positions of a session are kept, from the first on."""
        return self._rows.get(session, 0)

    def sent(self, session: SessionId, keep: int, rows: int) -> None:
        """Rows at positions keep, keep + 1, ... were sent, in place of all from there on."""
        if keep <= self.rows(session):
            self._rows[session] = keep + rows
        else:
            # What came before was never sent: the session began with a parcel.
            self.drop(session)

    def drop(self, session: SessionId) -> None:
        """Nothing of a session is kept any more."""
        self._rows.pop(session, None)

    def clear(self) -> None:
        """Nothing is kept any more."""
        self._rows.clear()


def spans(tokens: int, rows_max: int) -> Iterator[tuple[int, int]]:
    """Positions [0, tokens) in as few windows as may be: the first position and rows of each."""
    for keep in range(0, tokens, rows_max):
        yield keep, min(rows_max, tokens - keep)
