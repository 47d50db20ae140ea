"""Sampling with guesses keeps the model's distribution: 10,000 draws, and a chi-squared test.

Real logits of SmolLM2 behind a prompt and behind two guesses at how it goes on; the ends'
own choosing, which draws a token as if there were no guess and keeps the guess if it is
that token; one seed for each draw. What was drawn is held against the model's softmax,
worked out here by itself.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.domain.generation import GenerateRequest, SamplingParams
from atoll.domain.wire import F32
from atoll.engine.batch import Span
from atoll.engine.ends import EndsEngine
from atoll.engine.ends_messages import Tail
from atoll.engine.llama import Context, ContextOptions, Model, Rows
from atoll.engine.vocabulary import Vocabulary
from atoll.gateway.options import RingOptions
from atoll.gateway.prepare import ends_options, prepare
from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull
from bench.local import DEMO_SOURCE

DRAWS = 10_000
TEXT = "The old lighthouse keeper opened the door and saw"
TEMPERATURE, TOP_P = 0.9, 0.95
EXPECTED_MIN = 5.0
"""Cells of which fewer are expected are pooled (Cochran, 1954)."""
RING = RingOptions(nodes=1, streams=1, context=128, rows_max=64, chunk_rows=64)


def run(draws: int = DRAWS) -> dict[str, Any]:
    """Draw and test."""
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        return check(model, Store(Path(folder)), draws)


def check(model: FoundModel, store: Store, draws: int = DRAWS) -> dict[str, Any]:
    """Draw so often, each time up to three tokens of which two are guessed.

    Args:
        model: The model.
        store: Where the ends are cut to.
        draws: Seeds.
    """
    prompt, guesses, rows = _logits(model.path)
    prepared = prepare(model, store, RING)
    try:
        ends = EndsEngine(ends_options(model, prepared, RING))
        seen = _draw(ends, prompt, guesses, rows, draws)
    finally:
        prepared.release()
    tested = [
        chi_squared(counts, distribution(row)) for counts, row in zip(seen, rows, strict=True)
    ]
    statistic, freedom = (sum(part) for part in zip(*tested, strict=True))
    return {
        "sampling_p_value": round(p_value(statistic, int(freedom)), 4),
        "draws": draws,
        "checked": [counts.total() for counts in seen],
        "guesses_right": [counts[guess] for counts, guess in zip(seen, guesses, strict=False)],
        "chi_squared": round(float(statistic), 1),
        "freedom": int(freedom),
    }


def _logits(path: Path) -> tuple[tuple[int, ...], tuple[int, int], list[Rows]]:
    """The prompt, the likeliest two tokens behind it, and the logits behind each prefix."""
    model = Model(path)
    vocabulary = Vocabulary(model)
    prompt = vocabulary.tokens(TEXT, add_special=True, parse_special=False)
    options = ContextOptions(
        n_slots=1, context=128, rows_max=64, threads=1, threads_large=1, outputs_max=1
    )
    context = Context(model, options, tap=False)
    rows: list[Rows] = []
    text, at = list(prompt), 0
    for _ in range(3):
        new = np.array(text[at:], np.int32)
        [row] = context.logits_of_tokens([Span(0, at, len(new))], new, [len(new) - 1], exact=False)
        rows.append(row.copy())
        at = len(text)
        text.append(int(row.argmax()))
    context.close()
    return tuple(prompt), (text[-3], text[-2]), rows


def _draw(
    ends: EndsEngine,
    prompt: tuple[int, ...],
    guesses: tuple[int, int],
    rows: Sequence[Rows],
    draws: int,
) -> list[Counter[int]]:
    """What was drawn at each of three positions, where the guesses before it were right."""
    seen: list[Counter[int]] = [Counter() for _ in rows]
    item = Tail(
        slot=0,
        keep=len(prompt) - 1,
        exact=False,
        encoding=F32,
        rows=len(rows),
        sample=True,
        chain=False,
        last=False,
        checked=len(rows),
        guesses=guesses,
    )
    for seed in range(draws):
        sampling = SamplingParams(temperature=TEMPERATURE, top_p=TOP_P, seed=seed)
        ends.open(0, GenerateRequest(prompt, 9, sampling, ignore_eos=True))
        for counts, sampled in zip(seen, ends._choose(item, rows), strict=False):
            counts[sampled.token] += 1
    return seen


def distribution(logits: Rows) -> NDArray[np.float64]:
    """The probability of each token by its definition: a nucleus, then the temperature."""
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    order = np.argsort(-weights, kind="stable")
    before = np.cumsum(weights[order]) - weights[order]
    kept = order[before < TOP_P * weights.sum()]
    chosen = np.zeros_like(weights)
    chosen[kept] = weights[kept] ** (1 / TEMPERATURE)
    found: NDArray[np.float64] = chosen / chosen.sum()
    return found


def chi_squared(counts: Counter[int], wanted: NDArray[np.float64]) -> tuple[float, int]:
    """Pearson's statistic and its degrees of freedom; rare tokens are one cell."""
    n = counts.total()
    expected = wanted * n
    drawn = np.zeros_like(expected)
    for token, count in counts.items():
        drawn[token] = count
    common = expected >= EXPECTED_MIN
    pairs = [*zip(drawn[common], expected[common], strict=True)]
    if (rare := float(expected[~common].sum())) > 0:
        pairs.append((drawn[~common].sum(), rare))
    return sum((a - b) ** 2 / b for a, b in pairs), max(0, len(pairs) - 1)


def p_value(statistic: float, freedom: int) -> float:
    """The chance of no smaller a statistic: Q(freedom / 2, statistic / 2).

    The regularised upper incomplete gamma function, for whole and half arguments by its
    recurrence Q(a + 1, x) = Q(a, x) + x^a e^-x / Gamma(a + 1) (DLMF 8.8.6).
    """
    x = statistic / 2
    if freedom < 1 or x <= 0:
        return 1.0
    a = 1.0 if freedom % 2 == 0 else 0.5
    found = math.exp(-x) if a == 1.0 else math.erfc(math.sqrt(x))
    while a < freedom / 2:
        found += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(1.0, found)
