"""Guesses by looking up what stood before, here or in the group's recent sessions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.generation import GenerateRequest
from atoll.ring.drafting import GRADES, GROUPS_MAX, LONGEST, Drafter, Lookup, Lookups, Phrases


def guessed(drafter: Drafter, after: list[int], n: int) -> list[int]:
    return [guess.token for guess in drafter.propose(after, n)]


def test_what_followed_before_is_guessed() -> None:
    lookup = Lookup((1, 2, 3, 4, 5, 6, 7, 1, 2))
    assert guessed(lookup, [], 3) == [3, 4, 5]
    assert guessed(lookup, [3], 2) == [4, 5]
    assert guessed(lookup, [9], 2) == []
    lookup.accept([3, 4])
    assert guessed(lookup, [], 2) == [5, 6]


def test_the_latest_and_the_longest_run_counts() -> None:
    # After 1, 2 came 7 first and 8 later; after 5, 1, 2 only 7.
    lookup = Lookup((5, 1, 2, 7, 9, 1, 2, 8, 9, 1, 2))
    assert guessed(lookup, [], 1) == [8]
    lookup = Lookup((5, 1, 2, 7, 9, 1, 2, 8, 5, 1, 2))
    assert guessed(lookup, [], 1) == [7]


def test_a_period_is_gone_round() -> None:
    assert guessed(Lookup((1, 2, 3, 1, 2, 3, 1, 2, 3)), [], 7) == [1, 2, 3, 1, 2, 3, 1]


def test_nothing_is_guessed_of_what_is_new() -> None:
    assert Lookup(()).propose([], 4) == []
    assert Lookup((1, 2, 3, 4)).propose([], 4) == []


def test_a_guess_says_how_many_tokens_it_rests_on() -> None:
    # Six tokens stood before, then eight: the grade counts them.
    lookup = Lookup((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6))
    assert [guess.grade + 1 for guess in lookup.propose([], 4)] == [6, 7, 8, LONGEST]
    # The last token alone stood before.
    assert [guess.grade for guess in Lookup((1, 2, 3, 1)).propose([], 1)] == [0]


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 12))
def test_guesses_follow_a_run_that_stood_before(tokens: list[int], n: int) -> None:
    guesses = Lookup(tokens).propose([], n)
    assert len(guesses) <= n
    text = list(tokens)
    for guess in guesses:
        length = guess.grade + 1
        run = [*text[-length:], guess.token]
        assert any(text[i : i + length + 1] == run for i in range(len(text) - length))
        text.append(guess.token)


def test_what_other_sessions_said_is_guessed_where_this_one_says_nothing() -> None:
    phrases = Phrases()
    first = Lookup((1, 2), phrases)
    first.accept([3, 4, 5])
    assert guessed(Lookup((7, 8, 3), phrases), [], 2) == [4, 5]
    [guess] = Lookup((9, 3, 4), phrases).propose([], 1)
    assert (guess.token, guess.grade) == (5, LONGEST + 1)
    # Two tokens of the session count for more than any phrase.
    assert guessed(Lookup((3, 4, 6, 0, 3, 4), phrases), [], 1) == [6]


def test_the_most_frequent_follower_is_guessed() -> None:
    phrases = Phrases()
    for token in (5, 6, 6, 5, 6):
        phrases.learn((1, 2, 3), token)
    assert [phrases.follower((2, 3), n) for n in (3, 2, 1)] == [None, 6, 6]
    assert phrases.follower((9, 1, 2, 3), 3) == 6


def test_old_phrases_are_forgotten() -> None:
    phrases = Phrases(most=30)
    for token in range(100):
        phrases.learn((token,), token + 1)
    assert phrases.follower((69,), 1) is None
    assert phrases.follower((70,), 1) == 71


def request(prompt: tuple[int, ...], group: str) -> GenerateRequest:
    return GenerateRequest(prompt, 8, group=group)


def test_groups_hear_nothing_of_each_other() -> None:
    lookups = Lookups()
    lookups(request((1, 2), "ann")).accept([3, 4])
    assert guessed(lookups(request((8, 3), "ann")), [], 1) == [4]
    assert guessed(lookups(request((8, 3), "ben")), [], 1) == []
    for i in range(GROUPS_MAX):
        lookups(request((1,), str(i)))
    assert guessed(lookups(request((8, 3), "ann")), [], 1) == []


def test_there_is_a_share_for_every_grade() -> None:
    assert len(GRADES) == LONGEST + 3
    assert all(0 < share < 1 for share in GRADES)
