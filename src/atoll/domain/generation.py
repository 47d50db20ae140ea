"""A generation as the gateway's layers hand it on: what is asked, what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length"]

TOP_LOGPROBS_MAX = 20


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen from a row of logits.

    temperature 0 means greedy. top_k 0 and top_p 1 mean off. Penalties follow
    OpenAI (frequency, presence: subtracted per count or once, over generated
    tokens) and CTRL (repeat: divides or multiplies, over prompt and generated
    tokens of the last `repeat_last_n`). `logit_bias` is (token, bias) pairs.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    logprobs: int | None = None
    """None: no log-probabilities; n: the chosen token's and the n best's."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One completion to compute. `prompt` is token ids, never empty."""

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    exact: bool = False
    ignore_eos: bool = False
    group: str = ""
    """Whose it is: only requests of one group share what was computed."""
    sampled: tuple[int, ...] = ()
    """The answer's tokens so far, where another ring began it; `max_tokens` counts them."""
    priority: int = 0
    """Where requests wait, higher ones go first."""
    deadline_s: float | None = None
    """How long it may take from now to its last token, seconds; None: as long as it takes."""

    @property
    def known(self) -> tuple[int, ...]:
        """What is computed before the next token is sampled: prompt and answer so far."""
        return self.prompt + self.sampled


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """One candidate: its token id, its bytes, and its natural-log probability."""

    token: int
    piece: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token that was chosen. `finish` is set on the last one.

    `piece` is the token's bytes (perhaps a part of a UTF-8 character; empty
    for the end-of-generation token, which is not shown to the user). `cached`, on a
    session's first token, counts the prompt's tokens that had been computed before.
    """

    token: int
    piece: bytes
    finish: FinishReason | None = None
    logprob: float | None = None
    top: tuple[TopLogprob, ...] = ()
    cached: int = 0
