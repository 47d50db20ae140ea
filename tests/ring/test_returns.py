from __future__ import annotations

import msgspec

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Window
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.returns import Returned, Returns
from atoll.ring.session import Session

CONFIG = CoordinatorConfig(8, 16, 8, 4, 3)


def returned(session: int, rows: int = 1, *, exact: bool = False) -> Returned:
    request = GenerateRequest((1, 2), 9, exact=exact)
    of = Session.begin(SessionId(session), Slot(session), request, CONFIG)
    window = Window(of.id, of.slot, Epoch(1, 1), 0, 0, rows, of.encoding, 0, exact)
    return Returned(of, window, b"")


def decoded(session: int) -> Returned:
    of = returned(session)
    return Returned(of.session, msgspec.structs.replace(of.window, keep=2), b"")


def taken(returns: Returns, rows_max: int = 8) -> list[int]:
    return [r.window.session for r in returns.take(rows_max)]


def test_only_whole_flights_are_taken() -> None:
    returns = Returns(4)
    returns.add(returned(1))
    whole = [returns.complete]
    returns.close_flight()
    whole.append(returns.complete)
    assert whole == [False, True]
    assert taken(returns) == [1]


def test_like_goes_with_like_oldest_first() -> None:
    returns = Returns(8)
    for r in (returned(1), returned(2, 3), returned(3), returned(4, exact=True), returned(5, 3)):
        returns.add(r)
    returns.close_flight()
    assert [taken(returns, 5) for _ in range(4)] == [[1, 3], [2], [4], [5]]


def test_credits_go_back_as_windows_leave() -> None:
    returns = Returns(2)
    assert returns.charge() is None
    assert returns.charge() is None
    fault = returns.charge()
    assert fault is not None
    assert fault.code == "credit"
    returns.add(returned(1))
    returns.add(returned(2))
    returns.close_flight()
    assert returns.take_grants() == 0
    returns.drop(SessionId(1))
    assert returns.take_grants() == 1
    assert taken(returns) == [2]
    assert (returns.take_grants(), returns.given, returns.waiting) == (1, 2, 0)


def test_a_flight_beyond_the_queue() -> None:
    returns = Returns(2)
    w = returned(1).window
    for follow, bad in ((0, False), (1, False), (2, True), (-1, True)):
        window = msgspec.structs.replace(w, follow=follow)
        assert (returns.fault_of_flight(window) is not None) == bad


def test_what_may_bring_a_token_goes_before_chunks_where_asked() -> None:
    returns = Returns(8)
    for r in (returned(1, 2), returned(2, 2), decoded(3), decoded(4)):
        returns.add(r)
    waits = [returns.decode_waits]
    returns.close_flight()
    waits.append(returns.decode_waits)
    assert [r.window.session for r in returns.take(8, decode_first=True)] == [3, 4]
    waits.append(returns.decode_waits)
    assert waits == [False, True, False]
    assert [r.window.session for r in returns.take(8, decode_first=True)] == [1, 2]
