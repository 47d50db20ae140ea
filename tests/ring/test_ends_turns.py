from __future__ import annotations

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Epoch, SessionId
from atoll.ring.admission import Prefill
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import HeadItem, RunEnds, Submit
from atoll.ring.departures import Departures
from atoll.ring.drafting import Lookup
from atoll.ring.ends_turns import EndsTurns
from atoll.ring.pace import Pace
from atoll.ring.returns import Returned, Returns
from atoll.ring.session import Session
from atoll.ring.tenants import Tenants

CONFIG = CoordinatorConfig(
    n_slots=4, context=40, rows_max=8, chunk_rows=4, exact_chunk_rows=4, beside_rows=2
)


class Ends:
    """The turns of a ring with sessions that have prompts of eight tokens."""

    def __init__(self, sessions: int) -> None:
        tenants = Tenants(CONFIG, lambda request: Lookup(request.prompt), Pace())
        self.prefill = Prefill(CONFIG)
        self.returns = Returns(8)
        self.departures = Departures(CONFIG)
        self.turns = EndsTurns(CONFIG, tenants, self.prefill, self.departures, self.returns)
        request = GenerateRequest(tuple(range(8)), 4)
        found = [tenants.admit(Submit(SessionId(i), request), 1)[0] for i in range(sessions)]
        self.sessions = [session for session in found if session is not None]

    def comes_back(self, session: Session, keep: int | None = None, rows: int = 1) -> None:
        at = session.next_seq if keep is None else keep
        window = session.send(Epoch(1, 1), at, rows, 0)
        self.returns.add(Returned(session, window, b""))
        self.returns.close_flight()

    def begin(self) -> RunEnds:
        work = self.turns.begin()
        assert work is not None
        return work


def kinds(work: RunEnds) -> str:
    return "".join("h" if isinstance(item, HeadItem) else "t" for item in work.items)


def test_one_batch_at_a_time_and_none_without_work() -> None:
    ends = Ends(1)
    assert ends.turns.begin() is None
    ends.prefill.add(ends.sessions[0])
    assert kinds(ends.begin()) == "h"
    assert ends.sessions[0].at_ends
    assert ends.turns.begin() is None
    [turn] = ends.turns.end()
    assert turn.session is ends.sessions[0]
    assert [s.at_ends for s in ends.sessions] == [False]
    assert kinds(ends.begin()) == "h"


def test_prompts_and_returned_windows_take_turns() -> None:
    ends = Ends(3)
    for session in ends.sessions[:2]:
        ends.prefill.add(session)
    done = []
    for _ in range(4):
        ends.comes_back(ends.sessions[2])
        done.append(kinds(ends.begin()))
        ends.turns.end()
    assert done == ["h", "t", "h", "t"]


def test_a_window_that_passed_the_ends_frees_its_lane() -> None:
    ends = Ends(1)
    [session] = ends.sessions
    ends.comes_back(session)
    ends.begin()
    assert [turn.seq for turn in ends.turns.end()] == [0]


def test_a_next_token_goes_between_two_chunks() -> None:
    ends = Ends(2)
    prompt, other = ends.sessions
    other.sampled = 1
    other.tokens.append(7)
    ends.comes_back(prompt, keep=0, rows=2)
    ends.comes_back(prompt, keep=2, rows=2)
    ends.comes_back(other, keep=9)
    keeps = []
    for _ in range(3):
        keeps.append([item.keep for item in ends.begin().items])
        ends.turns.end()
    assert keeps == [[0], [9], [2]]


def test_prompts_enter_in_small_chunks_while_others_decode() -> None:
    ends = Ends(2)
    prompt, other = ends.sessions
    ends.prefill.add(prompt)
    other.sampled = 1
    other.tokens.append(7)
    assert [len(item.tokens) for item in ends.begin().items if isinstance(item, HeadItem)] == [2]
    ends.turns.end()
    # As many as there are lanes.
    assert ends.turns.begin() is None
    prompt.chunk_back(2)
    other.sampled = 0
    other.tokens.pop()
    assert [len(item.tokens) for item in ends.begin().items if isinstance(item, HeadItem)] == [4]
