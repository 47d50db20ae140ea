"""What the sender of a boundary has kept, over the model of hashes."""

from __future__ import annotations

from atoll.domain.ids import SessionId
from atoll.domain.wire import Window
from atoll.ring.messages import Payload
from atoll.sim.fake_model import ModelMisuse, pack, unpack


class FakeRecord:
    """Rows of each session as they were sent last."""

    def __init__(self) -> None:
        self._rows: dict[SessionId, list[int]] = {}

    def keep(self, window: Window, payload: Payload) -> None:
        """A window is sent."""
        rows = self._rows.setdefault(window.session, [])
        if window.keep > len(rows):
            # What came before was a parcel's.
            rows += [-1] * (window.keep - len(rows))
        rows[window.keep :] = unpack(payload, window.rows)

    def rows(self, window: Window) -> bytes:
        """The rows of a window that is sent again.

        Raises:
            ModelMisuse: They were never sent.
        """
        rows = self._rows.get(window.session, [])[window.keep : window.keep + window.rows]
        if len(rows) != window.rows or -1 in rows:
            raise ModelMisuse(f"session {window.session}: rows are sent again that never were")
        return pack(rows)

    def drop(self, session: SessionId) -> None:
        """Nothing of a session is wanted again."""
        self._rows.pop(session, None)
