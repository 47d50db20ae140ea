from __future__ import annotations

from atoll.domain.ids import SessionId
from atoll.ring.recorded import Recorded, spans

ONE = SessionId(1)


def test_rows_are_those_that_were_sent_last() -> None:
    recorded = Recorded()
    recorded.sent(ONE, 0, 5)
    recorded.sent(ONE, 3, 1)
    assert recorded.rows(ONE) == 4
    recorded.drop(ONE)
    assert recorded.rows(ONE) == 0


def test_nothing_counts_behind_a_gap() -> None:
    recorded = Recorded()
    recorded.sent(ONE, 0, 2)
    recorded.sent(ONE, 3, 1)
    assert recorded.rows(ONE) == 0


def test_as_few_windows_as_may_be() -> None:
    assert list(spans(7, 3)) == [(0, 3), (3, 3), (6, 1)]
    assert list(spans(0, 3)) == []
