"""The whole model in a process of its own: the measure of the ring's tokens.

    python -m atoll.demo.whole_process < Question > Answer

One JSON object in, one out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from atoll.engine.whole import WholeModel


class Question(msgspec.Struct, frozen=True):
    """What to compute: greedy tokens after a prompt."""

    model: str
    prompt: tuple[int, ...]
    max_tokens: int
    context: int
    threads: int


class Answer(msgspec.Struct, frozen=True):
    """Bytes of each token, and the speed after the first."""

    pieces: tuple[bytes, ...]
    tokens_per_s: float


def main() -> None:
    """Answer the question on standard input."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.json.encode(compute(question)))


def compute(question: Question) -> Answer:
    """Choose the likeliest tokens with the whole model in this process.

    Raises:
        AtollError: The model cannot be loaded.
    """
    whole = WholeModel(
        Path(question.model), n_slots=1, context=question.context, threads=question.threads
    )
    try:
        ran = whole.greedy([question.prompt], question.max_tokens, exact=True, stop_at_end=False)
        pieces = tuple(whole.vocabulary.piece(token) for token in ran.tokens[0])
    finally:
        whole.close()
    return Answer(pieces, ran.steps / ran.decode_s if ran.decode_s else 0.0)


if __name__ == "__main__":
    main()
