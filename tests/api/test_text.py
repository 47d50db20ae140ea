"""Text assembly: what is shown depends on the bytes alone, not on how tokens cut them."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from atoll.api.text import StopMatcher, TextAssembler


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces, cut at `places` (in any order, perhaps repeated)."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def assemble(pieces: list[bytes], stops: list[str]) -> tuple[str, bool, list[str]]:
    assembler = TextAssembler(stops)
    shown: list[str] = []
    for piece in pieces:
        shown.append(assembler.feed(piece))
        if assembler.stopped:
            break
    if not assembler.stopped:
        shown.append(assembler.finish())
    assert assembler.shown == len("".join(shown))
    return "".join(shown), assembler.stopped, shown


def cut_at_first_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """The plain meaning: the first end of a stop string; the longest where several end."""
    for end in range(1, len(text) + 1):
        here = [stop for stop in stops if text[:end].endswith(stop)]
        if here:
            return text[: end - max(map(len, here))], True
    return text, False


NEAR = st.text(alphabet="abé€", max_size=30)
STOPS = st.lists(st.text(alphabet="abé€", min_size=1, max_size=5), max_size=4)
PLACES = st.lists(st.integers(min_value=0, max_value=200), max_size=12)


@given(text=NEAR, stops=STOPS, places=PLACES)
def test_any_split_gives_the_same_text(text: str, stops: list[str], places: list[int]) -> None:
    shown, stopped, _ = assemble(cut(text.encode(), places), stops)
    assert (shown, stopped) == cut_at_first_stop(text, stops)


@given(data=st.binary(max_size=40), places=PLACES)
def test_any_split_of_any_bytes_decodes_like_the_whole(data: bytes, places: list[int]) -> None:
    shown, _, _ = assemble(cut(data, places), [])
    assert shown == data.decode("utf-8", errors="replace")


@given(text=NEAR, stops=STOPS, places=PLACES)
def test_what_is_held_back_is_exactly_what_may_become_a_stop_string(
    text: str, stops: list[str], places: list[int]
) -> None:
    matcher = StopMatcher(stops)
    seen, shown = "", ""
    for piece in cut(text.encode(), places):
        part = piece.decode(errors="ignore")
        seen += part
        shown += matcher.feed(part)
        if matcher.stopped:
            return
        longest = max(
            (n for stop in stops for n in range(len(stop)) if seen.endswith(stop[:n])), default=0
        )
        assert seen[len(shown) :] == seen[len(seen) - longest :]


def test_a_character_in_four_tokens_is_shown_once_it_is_whole() -> None:
    assembler = TextAssembler()
    assert [assembler.feed(bytes([b])) for b in "🌊".encode()] == ["", "", "", "🌊"]


def test_an_unfinished_character_at_the_end_is_one_replacement() -> None:
    assembler = TextAssembler()
    assert assembler.feed("é".encode()[:1]) == ""
    assert assembler.finish() == "\ufffd"


def test_a_stop_string_over_tokens_is_never_shown_in_part() -> None:
    shown, stopped, parts = assemble([b"one ", b"<|", b"e", b"nd|", b"> two"], ["<|end|>"])
    assert (shown, stopped) == ("one ", True)
    assert parts == ["one ", "", "", "", ""]


def test_a_false_start_of_a_stop_string_is_shown_after_all() -> None:
    shown, stopped, parts = assemble([b"a<|e", b"lse"], ["<|end|>"])
    assert (shown, stopped) == ("a<|else", False)
    assert parts[:2] == ["a", "<|else"]


def test_of_two_stop_strings_the_first_completed_cuts() -> None:
    assert assemble([b"xabcd"], ["abcd", "bc"])[0] == "xa"
    assert assemble([b"xabc"], ["abc", "c"])[0] == "x"


def test_nothing_comes_after_a_stop_string() -> None:
    matcher = StopMatcher(["end"])
    assert matcher.feed("the end.") == "the "
    assert matcher.feed("more") == ""
    assert matcher.flush() == ""
