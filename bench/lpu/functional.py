"""SmolLM2-135M on simulated chips, held against the engine and against f32 arithmetic.

Of each text the first tokens are given one by one. The engine computes the same file in its exact
mode; as it rounds its own activations to 8 bits where weights are packed, its distance to f32
arithmetic on the same weights is told as well.

- `token_s`: median seconds of this machine for one token.
- `kl`, `kl_f32`, `engine_kl_f32`: worst KL divergence (nats) of the distribution behind a text.
- `same_top1`: share of all positions whose likeliest token is the engine's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.engine.batch import Span
from atoll.engine.float_weights import FloatWeights
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.engine.lpu_session import LpuOptions, LpuSession, place_model
from atoll.engine.vocabulary import Vocabulary
from atoll.store.layout import Store, default_home
from atoll.store.pull import pull
from bench.local import DEMO_SOURCE, talk
from bench.lpu.decoder import logits_of

TEXTS = (
    "The capital of France is Paris, and the capital of Italy is",
    "Water boils at a temperature of one hundred degrees at sea level",
    "Once upon a time there was a little girl who lived in a",
    "To make bread you need flour, water, salt and some yeast, and",
    "The quick brown fox jumps over the lazy dog and then runs",
    "In the year 1969, two men walked on the surface of the",
    "She opened the old wooden door slowly and looked into the dark",
    "def add(a, b):\n    return a + b\n\ndef multiply(a, b):",
    "The theory of evolution was first described in detail by Charles",
    "My favourite season is autumn, because the leaves turn red and",
    "Plants take in carbon dioxide and give off oxygen during the day",
    "A triangle has three sides, a square has four sides, and a",
    "The meeting will take place next Monday at nine in the morning",
    "If it rains tomorrow, we will stay at home and play some",
    "Computers store numbers as sequences of ones and zeros, which are",
    "The river flows from the mountains through the valley down to the",
    "He studied medicine at the university and became a famous heart",
    "| name | age |\n|---|---|\n| Anna | 31 |\n| Bob |",
    "The old sailor told stories about storms, islands and sea monsters that",
    "Q: What is two plus two? A: Four. Q: What is three",
)
TOKENS = 10
"""Of each text."""
CONTEXT = 512
MAIN = "int8"
"""The setting whose figures are told without a name: what one chip holds."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Chips, how weights are stored, and how many of the texts are given."""

    name: str
    options: LpuOptions
    texts: int


SETTINGS = (
    Setting("int8", LpuOptions(chips=1, context=CONTEXT, stored="int8"), len(TEXTS)),
    Setting("f16", LpuOptions(chips=3, context=CONTEXT, stored="f16"), 5),
)

Logits = NDArray[np.float32]
"""Shape (tokens, vocabulary)."""


def run() -> dict[str, Any]:
    """All figures, of both settings."""
    store = Store(default_home())
    return check(store.resolve(pull(DEMO_SOURCE, store=store).model).path, SETTINGS)


def check(path: Path, settings: Sequence[Setting]) -> dict[str, Any]:
    """The figures of a model; those of `MAIN` without its name in front.

    Args:
        path: The model.
        settings: Each with some of `TEXTS`.
    """
    texts, engine = engine_logits(path)
    weights = FloatWeights(path)
    exact = exact_logits(weights, texts)
    found: dict[str, Any] = {"engine_kl_f32": _worst(exact, engine)}
    for setting in settings:
        talk(f"{setting.name}: laying out")
        figures = _measure(weights, setting, texts, engine, exact)
        prefix = "" if setting.name == MAIN else f"{setting.name}_"
        found |= {f"{prefix}{key}": value for key, value in figures.items()}
    return found


def engine_logits(path: Path) -> tuple[list[list[int]], list[Logits]]:
    """Tokens of each text, and the engine's logits behind each of them."""
    model = Model(path)
    vocabulary = Vocabulary(model)
    options = ContextOptions(
        n_slots=1, context=64, rows_max=TOKENS, threads=1, threads_large=1, outputs_max=TOKENS
    )
    context = Context(model, options, tap=False)
    texts, found = [], []
    for text in TEXTS:
        tokens = vocabulary.tokens(text, add_special=True, parse_special=False)[:TOKENS]
        context.drop(0)
        rows = context.logits_of_tokens(
            [Span(0, 0, len(tokens))],
            np.array(tokens, np.int32),
            list(range(len(tokens))),
            exact=True,
        )
        texts.append(tokens)
        found.append(np.stack([row.copy() for row in rows]))
    context.close()
    model.close()
    return texts, found


def exact_logits(weights: FloatWeights, texts: Sequence[Sequence[int]]) -> list[Logits]:
    """What f32 arithmetic makes of the same weights."""
    embedded = [np.stack([weights.embedding(token) for token in text]) for text in texts]
    return logits_of(weights.facts, weights.layer, weights.head(), embedded)


def _measure(
    weights: FloatWeights,
    setting: Setting,
    texts: Sequence[Sequence[int]],
    engine: Sequence[Logits],
    exact: Sequence[Logits],
) -> dict[str, Any]:
    begun = time.perf_counter()
    placed = place_model(weights, setting.options, talk)
    compiled = time.perf_counter()
    session = LpuSession(weights, placed, talk)
    laid = time.perf_counter()
    seconds: list[float] = []
    simulated: list[Logits] = []
    for n, text in enumerate(texts[: setting.texts]):
        session.reset()
        rows = []
        for token in text:
            start = time.perf_counter()
            rows.append(session.token(token))
            seconds.append(time.perf_counter() - start)
        simulated.append(np.stack(rows))
        talk(f"{setting.name}: text {n + 1} of {setting.texts}, {seconds[-1]:.2f} s a token")
    same = [
        ours.argmax(axis=1) == theirs.argmax(axis=1)
        for ours, theirs in zip(simulated, engine, strict=False)
    ]
    return {
        "token_s": round(statistics.median(seconds), 3),
        "kl": _worst(engine, simulated),
        "kl_f32": _worst(exact, simulated),
        "same_top1": round(float(np.mean(np.concatenate(same))), 4),
        "positions": len(seconds),
        "texts": len(simulated),
        "weights": placed.compiled.stored,
        "chips": placed.chips_used,
        "token_us": round(1e6 * placed.token_s, 2),
        "compile_s": round(compiled - begun, 2),
        "lay_out_s": round(laid - compiled, 2),
    }


def _worst(wanted: Sequence[Logits], found: Sequence[Logits]) -> float:
    """Of the distributions behind each text, as far as there are both."""
    pairs = zip(wanted, found, strict=False)
    return round(max(divergence(one[-1], other[-1]) for one, other in pairs), 5)


def divergence(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """KL divergence, in nats, of the distribution of some logits from that of others."""
    one, other = _log_softmax(wanted), _log_softmax(found)
    return float(np.sum(np.exp(one) * (one - other)))


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
