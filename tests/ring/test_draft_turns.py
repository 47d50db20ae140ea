"""What the draft model is given: texts to read, and sessions to guess for."""

from __future__ import annotations

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId, Slot
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import RunDraft
from atoll.ring.draft_turns import CHUNK_ROWS, EARLY_ROWS, DraftTurns
from atoll.ring.drafting import Lookup
from atoll.ring.pace import Pace
from atoll.ring.session import Session

CONFIG = CoordinatorConfig(
    n_slots=4, context=400, rows_max=256, guess_depth=12, guess_rows=4, draft_model=True
)


def far() -> Pace:
    pace = Pace()
    pace.note(1, 1.0, 0.01)
    return pace


def session(pace: Pace, number: int = 0, prompt: int = 10, *, sampled: int = 1) -> Session:
    """One of which so many tokens were sampled: 1000, 1001, ..."""
    request = GenerateRequest(tuple(range(prompt)), 50)
    made = Session.begin(SessionId(number), Slot(number), request, CONFIG)
    made.guess(Lookup(request.prompt), pace, CONFIG)
    for token in range(1000, 1000 + sampled):
        say(made, token)
    return made


def say(session: Session, *tokens: int) -> None:
    """These are sampled next, and go on alone."""
    assert session.speculation is not None
    session.sampled += len(tokens)
    session.tokens += tokens
    session.speculation.sampled(tokens, chained=True)


def given(work: RunDraft | None) -> list[tuple[int, int, int, int]]:
    """Slot, keep, number of tokens and of guesses of each item."""
    assert work is not None
    return [(i.slot, i.keep, len(i.tokens), i.n) for i in work.items]


def test_what_was_read_is_not_given_again() -> None:
    pace = far()
    turns, one = DraftTurns(CONFIG, pace), session(pace)
    assert given(turns.begin([one])) == [(0, 0, 11, 4)]
    assert turns.begin([one]) is None, "one batch at a time"
    turns.end([(1, 2, 3, 4)], 0.04)
    assert pace.draft_s == 0.01
    # The last guess was not read yet.
    assert given(turns.begin([one])) == [(0, 14, 1, 4)]
    turns.end([(5, 6, 7, 8)], 0.04)
    # The first was right, the second was not: go on behind what is said now.
    say(one, 1, 77)
    assert given(turns.begin([one])) == [(0, 12, 1, 4)]


def test_long_texts_are_read_in_pieces_and_others_guess_in_between() -> None:
    pace = far()
    turns = DraftTurns(CONFIG, pace)
    long, short = session(pace, 0, prompt=2 * CHUNK_ROWS + 9), session(pace, 1)
    done = []
    for _ in range(5):
        work = turns.begin([long, short])
        if work is None:
            break
        done += given(work)
        turns.end([tuple(range(item.n)) for item in work.items], 0.01)
    reads = [item for item in done if not item[3]]
    assert reads == [(0, 0, CHUNK_ROWS, 0), (0, CHUNK_ROWS, CHUNK_ROWS, 0)]
    assert done[0][0] == 1, "who can guess does so first"
    assert (0, 2 * CHUNK_ROWS, 10, 4) in done


def test_prompts_are_read_before_their_first_token_is_there() -> None:
    pace = far()
    turns, one = DraftTurns(CONFIG, pace), session(pace, sampled=0)
    # All but the last token, which is read with the first guess.
    assert given(turns.begin([one])) == [(0, 0, 9, 0)]
    turns.end([()], 0.01)
    assert turns.begin([one]) is None
    assert pace.draft_s == 0, "reading tells nothing of guesses"


def test_of_a_long_prompt_only_the_beginning() -> None:
    pace = far()
    turns, one = DraftTurns(CONFIG, pace), session(pace, prompt=390, sampled=0)
    reads = []
    while (work := turns.begin([one])) is not None:
        reads += given(work)
        turns.end([()], 0.01)
    assert sum(n for _, _, n, _ in reads) == EARLY_ROWS
    say(one, 1000)
    assert given(turns.begin([one])) == [(0, EARLY_ROWS, CHUNK_ROWS, 0)]


def test_nothing_is_done_where_it_does_not_pay() -> None:
    near = Pace()
    near.note(1, 0.02, 0.015)
    turns = DraftTurns(CONFIG, near)
    assert turns.begin([session(near)]) is None


def test_what_failed_is_not_asked_again_and_its_slot_is_read_anew() -> None:
    pace = far()
    turns, one = DraftTurns(CONFIG, pace), session(pace)
    turns.begin([one])
    turns.end([None], 0.01)
    assert turns.begin([one]) is None
    other = session(pace)
    assert given(turns.begin([other])) == [(0, 0, 11, 4)]


def test_a_slot_that_others_had_is_read_from_where_texts_differ() -> None:
    pace = far()
    turns, one = DraftTurns(CONFIG, pace), session(pace)
    turns.begin([one])
    turns.end([(1, 2, 3, 4)], 0.01)
    request = GenerateRequest((0, 1, 2, 9, 9, 9), 50)
    other = Session.begin(SessionId(8), Slot(0), request, CONFIG)
    other.guess(Lookup(request.prompt), pace, CONFIG)
    say(other, 5)
    assert given(turns.begin([other])) == [(0, 3, 4, 4)]


def test_a_model_that_is_gone_is_asked_no_more() -> None:
    pace = far()
    turns = DraftTurns(CONFIG, pace)
    # One that is being asked, and one whose turn has not come.
    one, other = (session(pace, i, prompt=3) for i in range(2))
    turns.begin([one])
    turns.gone()
    assert turns.begin([one, other]) is None
    for each in (one, other):
        assert each.speculation is not None
        assert not each.speculation.uses_model
        # The lookup guesses again.
        say(each, 1, 2, 3, 1, 2)
        assert each.speculation.next_tokens(20) is not None
