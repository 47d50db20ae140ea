"""An answer of a model on simulated chips: prompt in, text out as it comes, and what it took."""

from __future__ import annotations

import codecs
import datetime
import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll.domain.errors import BadRequest
from atoll.domain.generation import FinishReason, SamplingParams
from atoll.engine.chat_template import Turn
from atoll.engine.float_weights import FloatWeights
from atoll.engine.lpu_session import LpuOptions, LpuSession, place_model
from atoll.engine.prompt import PromptMaker
from atoll.engine.sampling import Sampler
from atoll.engine.vocabulary import Vocabulary

NONCE_BYTES = 16
GREEDY = SamplingParams(temperature=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of which model, on which chips.

    Attributes:
        path: The model's file.
        name: What to call the model.
        prompt: A user's message, or with `plain` a text to go on with.
        max_tokens: Most tokens of the answer; None: as many as the context has room for.
    """

    path: Path
    name: str
    prompt: str
    options: LpuOptions
    plain: bool = False
    max_tokens: int | None = None
    sampling: SamplingParams = GREEDY


@dataclass(frozen=True, slots=True)
class Audience:
    """Who hears about it: `say` what is going on, `write` the answer as it comes."""

    say: Callable[[str], None]
    write: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LpuAnswer:
    """The answer. Times of tokens are the chips' (`token_us`; `host_us` is not in it) and this
    machine's (`real_token_s`, the median).
    """

    model: str
    answer: str
    finish_reason: FinishReason
    prompt_tokens: int
    answer_tokens: int
    system: str
    chips: int
    chips_used: int
    width: int
    context: int
    weights: str
    token_cycles: int
    token_us: float
    host_us: float
    compile_s: float
    lay_out_s: float
    real_token_s: float


def answer(question: Question, audience: Audience) -> LpuAnswer:
    """Compile the model, lay it out, and let the chips answer.

    Raises:
        BadModel: It is no sound GGUF file, or its chat template is broken.
        BadRequest: The model is not covered or does not fit; the prompt and a token of the answer
            are more than the context; the model has no chat template.
    """
    weights = FloatWeights(question.path, question.name)
    maker = PromptMaker(question.path)
    try:
        prompt = _tokens(maker, question)
        context = question.options.context
        room = context - len(prompt) + 1
        if room < 1:
            raise BadRequest(
                f"the prompt has {len(prompt)} tokens, and the context {context} positions",
                hint="a larger context, or a shorter prompt",
            )
        wanted = min(room, question.max_tokens or room)
        begun = time.perf_counter()
        placed = place_model(weights, question.options, audience.say)
        compiled = time.perf_counter()
        session = LpuSession(weights, placed, audience.say)
        laid = time.perf_counter()
        token_us = 1e6 * placed.token_s
        audience.say(
            f"chips: {placed.chips_used}, weights of {placed.compiled.stored}: compiled in "
            f"{compiled - begun:.1f} s, laid out in {laid - compiled:.1f} s; "
            f"a token takes {placed.cycles:,} cycles, {token_us:.1f} us"
        )
        talk = _Talk(session, maker.vocabulary, Sampler(question.sampling, prompt), audience)
        reason = talk.run(prompt, wanted)
    finally:
        maker.close()
    return LpuAnswer(
        model=question.name,
        answer=talk.text,
        finish_reason=reason,
        prompt_tokens=len(prompt),
        answer_tokens=talk.chosen,
        system=placed.topology.system.name,
        chips=placed.wanted.chips,
        chips_used=placed.chips_used,
        width=placed.width,
        context=context,
        weights=placed.compiled.stored,
        token_cycles=placed.cycles,
        token_us=token_us,
        host_us=1e6 * placed.host_s,
        compile_s=round(compiled - begun, 3),
        lay_out_s=round(laid - compiled, 3),
        real_token_s=round(statistics.median(talk.seconds), 3),
    )


def _tokens(maker: PromptMaker, question: Question) -> list[int]:
    if question.plain:
        found = maker.tokens(question.prompt)
    else:
        found = maker.chat(
            [Turn("user", question.prompt)],
            nonce=secrets.token_hex(NONCE_BYTES),
            now=datetime.datetime.now(datetime.UTC),
            extra={},
        )
    if not found:
        raise BadRequest("the prompt is empty", hint="write something")
    return found


class _Talk:
    """The prompt's tokens one by one, then the answer's."""

    def __init__(
        self, session: LpuSession, vocabulary: Vocabulary, sampler: Sampler, audience: Audience
    ) -> None:
        self.seconds: list[float] = []
        self.chosen = 0
        self.text = ""
        self._session, self._vocabulary = session, vocabulary
        self._sampler, self._audience = sampler, audience
        # A token may end within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def run(self, prompt: Sequence[int], most: int) -> FinishReason:
        """Up to `most` tokens; why it ended."""
        tokens = list(prompt)
        while True:
            for n, token in enumerate(tokens):
                begun = time.perf_counter()
                logits = self._session.token(token)
                self.seconds.append(time.perf_counter() - begun)
                if len(tokens) > 1:
                    which = f"token {n + 1} of {len(tokens)} of the prompt"
                    self._audience.say(f"{which}: here {self.seconds[-1]:.2f} s")
            chosen = self._sampler.sample(logits, self._session.position).token
            self._sampler.accept(chosen)
            self.chosen += 1
            if self._vocabulary.is_end(chosen):
                self._write(b"", final=True)
                return "stop"
            self._write(self._vocabulary.piece(chosen), final=self.chosen == most)
            if self.chosen == most:
                return "length"
            tokens = [chosen]

    def _write(self, piece: bytes, *, final: bool) -> None:
        text = self._decoder.decode(piece, final)
        self.text += text
        self._audience.write(text)
