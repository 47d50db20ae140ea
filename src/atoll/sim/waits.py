"""Waits: behind how many calls with chunks a short window waits at a stage; at most one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from atoll.domain.ids import SessionId
from atoll.domain.wire import Cancel, Release, Window
from atoll.ring.stage_messages import BatchItem
from atoll.sim.traffic import Message, require


@dataclass(slots=True)
class _Waiting:
    """A window at a stage, and the calls with chunks that have begun since its flight was whole."""

    window: Window
    excused: bool
    whole: bool = False
    calls: int = 0


class Waits:
    """Counts for each stage of a chain.

    Args:
        light_rows: Of each stage, the most rows of a short window.
    """

    def __init__(self, light_rows: Sequence[int]) -> None:
        self._light_rows = light_rows
        self._at: defaultdict[int, dict[tuple[SessionId, int], _Waiting]] = defaultdict(dict)

    def arrived(self, stage: int, message: Message) -> None:
        """A frame has arrived at a stage, which has not seen it yet."""
        at = self._at[stage]
        match message:
            case Window():
                # It cannot pass what its own session has to compute before it.
                behind = any(
                    w.window.session == message.session and self._is_chunk(stage, w.window.rows)
                    for w in at.values()
                )
                at[message.session, message.keep] = _Waiting(message, behind)
            case Cancel(session, _, seq):
                self._forget(stage, session, seq)
            case Release(session):
                self._forget(stage, session, None)
        if not isinstance(message, Window) or message.follow == 0:
            for waiting in at.values():
                waiting.whole = True

    def begins(self, stage: int, items: Sequence[BatchItem]) -> None:
        """A call begins.

        Raises:
            BrokenInvariant: Somebody in it has waited for more than one call with chunks.
        """
        at = self._at[stage]
        chunks = self._is_chunk(stage, items[0].rows)
        for item in items:
            waiting = at.pop((item.session, item.keep), None)
            if waiting is not None and not chunks and not waiting.excused:
                problem = f"at stage {stage} session {item.session} waited for {waiting.calls}"
                require(waiting.calls <= 1, f"{problem} calls with chunks")
        if chunks:
            for waiting in at.values():
                waiting.calls += waiting.whole

    def lost(self, stage: int) -> None:
        """The stage has died or begins anew: nothing waits there."""
        self._at[stage].clear()

    def _is_chunk(self, stage: int, rows: int) -> bool:
        return rows > self._light_rows[stage]

    def _forget(self, stage: int, session: SessionId, seq: int | None) -> None:
        self._at[stage] = {
            key: w
            for key, w in self._at[stage].items()
            if w.window.session != session or (seq is not None and w.window.seq > seq)
        }
