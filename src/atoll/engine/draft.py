"""A draft model: a small model of the same vocabulary that guesses what the ring will say.

A guess is drawn with the chance of its position, as the ring's own token will be
(`sampling.chance`): where both models give a token the same share of the probability
they draw the same token, so guesses are right about as often as the models agree,
whatever the temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from atoll.domain.errors import EngineFault
from atoll.domain.generation import SamplingParams
from atoll.engine.batch import Span, lay_out
from atoll.engine.draft_messages import Drafted, DraftOptions, Wanted
from atoll.engine.library import device_title
from atoll.engine.llama import Context, ContextOptions, Model, Rows
from atoll.engine.sampling import Sampler
from atoll.engine.vocabulary import Vocabulary


@dataclass(slots=True)
class _Guessing:
    """One slot's guesses as they come."""

    wanted: Wanted
    sampler: Sampler
    found: list[int] = field(default_factory=list)
    over: bool = False
    problem: str = ""

    @property
    def end(self) -> int:
        """Positions that are computed or given: the next guess stands there."""
        return self.wanted.keep + len(self.wanted.tokens) + len(self.found)

    @property
    def wants_more(self) -> bool:
        return not self.over and len(self.found) < self.wanted.n


class DraftEngine:
    """The whole draft model with a cache for each of the ring's slots."""

    def __init__(self, options: DraftOptions) -> None:
        """Load it.

        Raises:
            BadModel: The file is not what it should be.
            EngineFault: There is no room for the caches.
        """
        self._options = o = options
        self._model = Model(Path(o.model), device=o.device)
        outputs = o.n_slots * (1 + o.hints_max)
        self._context = Context(
            self._model,
            ContextOptions(
                n_slots=o.n_slots,
                context=o.context,
                rows_max=o.rows_max,
                threads=o.threads,
                threads_large=o.threads_large,
                outputs_max=outputs,
            ),
            tap=False,
        )
        self._vocabulary = Vocabulary(self._model)

    @property
    def build(self) -> str:
        """Name of the engine build."""
        return self._model.library.build

    @property
    def device(self) -> str:
        """What it computes on, for people."""
        return device_title(self._model.library, self._options.device)

    @property
    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        return self._vocabulary.n_tokens

    def run(self, wanted: Sequence[Wanted]) -> list[Drafted]:
        """Guess for several slots; what cannot be computed harms no other."""
        all_guesses = [_Guessing(item, Sampler(_plain(item.sampling))) for item in wanted]
        self._take_in([g for g in all_guesses if self._fits(g)])
        while live := [g for g in all_guesses if g.wants_more]:
            spans = [Span(g.wanted.slot, g.end - 1, 1) for g in live]
            self._call(live, spans, [(g.found or g.wanted.tokens)[-1:] for g in live], 1)
        return [Drafted(tuple(g.found), g.problem) for g in all_guesses]

    def _fits(self, g: _Guessing) -> bool:
        """Whether it can be computed at all."""
        item, o = g.wanted, self._options
        rows = len(item.tokens) + len(item.hints)
        tokens = (*item.tokens, *item.hints)
        if not item.tokens or rows > o.rows_max or len(item.hints) > o.hints_max:
            g.problem = f"{len(item.tokens)} tokens and {len(item.hints)} hints cannot be taken"
        elif item.keep + len(item.tokens) + max(len(item.hints), item.n - 1) > o.context:
            g.problem = f"position {item.keep + rows} is beyond the context"
        elif not 0 <= min(tokens) <= max(tokens) < self.n_vocab:
            g.problem = "a token is outside the vocabulary"
        else:
            g.problem = self._context.gap(Span(item.slot, item.keep, rows))
        g.over = bool(g.problem)
        return not g.problem

    def _take_in(self, guesses: list[_Guessing]) -> None:
        """Compute what is given, hints too, and keep those that are the model's own guesses."""
        for hints in {len(g.wanted.hints) for g in guesses}:
            # Of one call the same number of rows counts.
            alike = [g for g in guesses if len(g.wanted.hints) == hints]
            texts = [(*g.wanted.tokens, *g.wanted.hints) for g in alike]
            spans = [
                Span(g.wanted.slot, g.wanted.keep, len(text))
                for g, text in zip(alike, texts, strict=True)
            ]
            self._call(alike, spans, texts, 1 + hints)

    def _call(
        self,
        members: list[_Guessing],
        spans: list[Span],
        texts: Sequence[Sequence[int]],
        checked: int,
    ) -> None:
        """Compute spans; of each the last `checked` rows give guesses, if any are wanted."""
        for call in lay_out(spans, self._options.rows_max):
            chosen = [members[i] for i in call]
            tokens = np.array([token for i in call for token in texts[i]], np.int32)
            ends = np.cumsum([spans[i].rows for i in call])
            asked = [(g, end) for g, end in zip(chosen, ends, strict=True) if g.wants_more]
            wanted = [row for _, end in asked for row in range(end - checked, end)]
            try:
                logits = self._context.logits_of_tokens(
                    [spans[i] for i in call], tokens, wanted, exact=False
                )
                for at, (g, _) in enumerate(asked):
                    self._choose(g, logits[at * checked : (at + 1) * checked])
            except EngineFault as fault:
                for g in chosen:
                    g.over, g.problem = True, str(fault)

    def _choose(self, g: _Guessing, rows: Sequence[Rows]) -> None:
        """The guesses behind some rows, up to the first that was not hinted at."""
        hints = g.wanted.hints if not g.found else ()
        for i, row in enumerate(rows):
            token = g.sampler.sample(row, g.end).token
            g.found.append(token)
            g.over = self._vocabulary.is_end(token)
            if not g.wants_more or hints[i : i + 1] != (token,):
                return


def _plain(params: SamplingParams) -> SamplingParams:
    """Without what depends on the tokens before, and without what only a client wants."""
    return replace(
        params, frequency_penalty=0.0, presence_penalty=0.0, repeat_penalty=1.0, logprobs=None
    )
