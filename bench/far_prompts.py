"""Prompts of three kinds: chat, summarising a given text, editing given code.

Each is a real question to a chat model. A `Deck` deals every prompt once before it deals
one again: guesses from earlier answers must not know the answer already.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHAT, SUMMARISE, EDIT = "chat", "summarise", "edit"
KINDS = (CHAT, SUMMARISE, EDIT)
REPEATING = (SUMMARISE, EDIT)
"""Kinds whose answers repeat what the prompt says."""
_TEXTS = Path(__file__).parent / "texts"

_CHATS = (
    "Explain {} to a ten-year-old child in a few sentences.",
    "What should a beginner know about {}?",
    "Write a short and friendly letter to a friend about {}.",
    "Give five tips or facts about {}, with a sentence for each.",
    "Tell a short story in which {} plays a part.",
)
_SUMMARIES = (
    "Summarise the following text in three sentences.",
    "Write a summary of this text that keeps its main facts.",
    "What are the main points of the following text? Quote from it.",
    "Retell the following text in your own words, shorter.",
    "Shorten this text to half its length.",
    "List the most important facts of the following text.",
    "Read the text and say what happened, in the order in which it happened.",
    "Write a news item of four sentences from this text.",
    "Which numbers does the text mention, and what do they stand for?",
    "Summarise the text for somebody who is in a hurry.",
    "Repeat the most important sentences of the text.",
    "Explain what the following text is about and what it says.",
)
_EDITS = (
    "Add a docstring to each function. Answer with the whole code.",
    "Add type hints to this code. Answer with the whole code.",
    "Rename the variables so that they say more. Answer with the whole code.",
    "Add a comment to each step. Answer with the whole code.",
    "Print a message at the start of each function. Answer with the whole code.",
    "Rewrite this code with checks of its input. Answer with the whole code.",
    "Repeat this code and add one example of its use at the end.",
    "Correct the style of this code where needed. Answer with the whole code.",
    "Make this code log what it does. Answer with the whole code.",
    "Add one more function that fits this code. Answer with the whole code.",
    "Rewrite this code so that errors are caught. Answer with the whole code.",
    "Add a main function that calls this code. Answer with the whole code.",
)


def _parts(name: str) -> list[str]:
    return (_TEXTS / name).read_text("utf-8").strip().split("\n---\n")


def articles() -> list[str]:
    """The texts that are summarised."""
    return _parts("articles.txt")


def _crossed(firsts: tuple[str, ...], seconds: list[str], form: str) -> list[str]:
    """Every first with every second; neighbours share neither."""
    rounds = range(len(firsts))
    return [
        form.format(firsts[(at + shift) % len(firsts)], second)
        for shift in rounds
        for at, second in enumerate(seconds)
    ]


def prompts_of(kind: str) -> list[str]:
    """All questions of a kind."""
    if kind == CHAT:
        topics = (_TEXTS / "topics.txt").read_text("utf-8").splitlines()
        return [
            _CHATS[(at + shift) % len(_CHATS)].format(topic)
            for shift in range(len(_CHATS))
            for at, topic in enumerate(topics)
        ]
    if kind == SUMMARISE:
        return _crossed(_SUMMARIES, articles(), "{}\n\n{}")
    return _crossed(_EDITS, _parts("code.txt"), "{}\n\n```python\n{}\n```")


def chat(*turns: str) -> str:
    """A conversation as SmolLM2 reads it (ChatML); the turns take turns, ours the first."""
    told = [
        f"<|im_start|>{'assistant' if at % 2 else 'user'}\n{turn}<|im_end|>\n"
        for at, turn in enumerate(turns)
    ]
    return "".join(told) + "<|im_start|>assistant\n"


@dataclass
class Deck:
    """Deals prompts of each kind, none twice until all were dealt."""

    dealt: dict[str, int]

    @classmethod
    def fresh(cls) -> Deck:
        """One of which nothing was dealt."""
        return cls(dict.fromkeys(KINDS, 0))

    def deal(self, kind: str, n: int) -> list[str]:
        """The next `n` prompts of a kind, as the model reads them."""
        known, start = prompts_of(kind), self.dealt[kind]
        self.dealt[kind] += n
        return [chat(known[at % len(known)]) for at in range(start, start + n)]
