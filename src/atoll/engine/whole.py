"""The whole model in one process: what every ring is compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atoll.domain.generation import SamplingParams
from atoll.engine import numeric_class
from atoll.engine.batch import EXACT_ROWS_MAX, Span
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.engine.sampling import Sampler
from atoll.engine.vocabulary import Vocabulary

GREEDY = SamplingParams(temperature=0.0)


@dataclass(frozen=True, slots=True)
class WholeRun:
    """Tokens of every prompt and what they took.

    `decode_s` counts the steps after the first token; `steps` is their number.
    """

    tokens: tuple[tuple[int, ...], ...]
    prefill_s: float
    decode_s: float
    steps: int


class WholeModel:
    """One context over all layers; prompts are decoded together, one row each a step."""

    def __init__(
        self, path: Path, *, n_slots: int, context: int, threads: int, rows_max: int = 512
    ) -> None:
        options = ContextOptions(
            n_slots=n_slots,
            context=context,
            rows_max=rows_max,
            threads=threads,
            threads_large=threads,
            outputs_max=n_slots,
        )
        self._model = Model(path)
        self._context = Context(self._model, options, tap=False)
        self.bits = numeric_class.settle_whole(self._context)
        self._rows_max = rows_max
        self.vocabulary = Vocabulary(self._model)

    def greedy(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        *,
        exact: bool = False,
        stop_at_end: bool = True,
    ) -> WholeRun:
        """The likeliest continuation of each prompt, token by token.

        Args:
            prompts: Token ids, one prompt a slot.
            max_tokens: Tokens to choose for each.
            exact: Give every row the bits that it has when it is computed alone.
            stop_at_end: End a sequence at its end-of-generation token.
        """
        samplers = [Sampler(GREEDY, tuple(prompt)) for prompt in prompts]
        out: list[list[int]] = [[] for _ in prompts]
        start = time.perf_counter()
        for slot, prompt in enumerate(prompts):
            self._context.drop(slot)
            logits = self._prefill(slot, prompt, exact)
            out[slot].append(samplers[slot].sample(logits, len(prompt)).token)
        prefilled = time.perf_counter()
        steps = 0
        while live := self._live(out, max_tokens, stop_at_end):
            self._step(prompts, out, samplers, live, exact)
            steps += 1
        return WholeRun(
            tokens=tuple(tuple(tokens) for tokens in out),
            prefill_s=prefilled - start,
            decode_s=time.perf_counter() - prefilled,
            steps=steps,
        )

    def _live(self, out: list[list[int]], max_tokens: int, stop_at_end: bool) -> list[int]:
        return [
            slot
            for slot, tokens in enumerate(out)
            if len(tokens) < max_tokens and not (stop_at_end and self.vocabulary.is_end(tokens[-1]))
        ]

    def _prefill(self, slot: int, prompt: Sequence[int], exact: bool) -> np.ndarray:
        chunk = EXACT_ROWS_MAX if exact else self._rows_max
        rows: list[np.ndarray] = []
        for at in range(0, len(prompt), chunk):
            part = np.array(prompt[at : at + chunk], np.int32)
            last = at + chunk >= len(prompt)
            rows = self._context.logits_of_tokens(
                [Span(slot, at, len(part))], part, [len(part) - 1] if last else [], exact=exact
            )
        return rows[0]

    def _step(
        self,
        prompts: Sequence[Sequence[int]],
        out: list[list[int]],
        samplers: list[Sampler],
        live: list[int],
        exact: bool,
    ) -> None:
        """One more token for each live slot; runs of consecutive slots share a call."""
        for run in _consecutive(live):
            spans = [Span(slot, len(prompts[slot]) + len(out[slot]) - 1, 1) for slot in run]
            tokens = np.array([out[slot][-1] for slot in run], np.int32)
            rows = self._context.logits_of_tokens(spans, tokens, list(range(len(run))), exact=exact)
            for slot, span, row in zip(run, spans, rows, strict=True):
                out[slot].append(samplers[slot].sample(row, span.keep + 1).token)

    def close(self) -> None:
        """Free everything."""
        self._context.close()
        self._model.close()


def _consecutive(slots: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for slot in slots:
        if runs and runs[-1][-1] + 1 == slot:
            runs[-1].append(slot)
        else:
            runs.append([slot])
    return runs
