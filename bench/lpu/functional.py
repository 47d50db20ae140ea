"""SmolLM2-135M on simulated chips, held against the engine and against arithmetic in f32.

Of each text the first tokens are given one by one, and the distributions of the next token are
compared: their KL divergence in nats behind the whole text, of all texts the worst, and behind
every token, whether the likeliest next one is the same. References are

- the engine on the same weights unpacked to f32 (`unpacked.py`), which is the measure: `kl`,
  `same_top1`;
- f32 arithmetic in NumPy (`decoder.py`), which shares nothing with the engine: `kl_f32`,
  `same_top1_f32`;
- the engine on the file as it is: `packed_kl`, `packed_same_top1`. There it rounds what it
  multiplies to 8 bits, and is further from the others than chips may be: `engine_*` say how far
  the engine itself is from f32 arithmetic, and `packed_engine_*` how far it is then.

`token_s` is the median of this machine's seconds for one token, two being computed at a time.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.engine.batch import Span
from atoll.engine.float_weights import FloatWeights
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.engine.lpu_session import LpuOptions
from atoll.engine.vocabulary import Vocabulary
from atoll.store.layout import Store, default_home
from atoll.store.pull import pull
from bench.local import DEMO_SOURCE
from bench.lpu.decoder import logits_of
from bench.lpu.simulated import Simulated, simulate
from bench.lpu.unpacked import write_unpacked

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
MAIN = "f16"
"""The setting whose figures are told without a name: what `atoll lpu run` does unless told."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Chips, how weights are stored, and how many of the texts are given."""

    name: str
    options: LpuOptions
    texts: int


SETTINGS = (
    Setting("f16", LpuOptions(context=CONTEXT), len(TEXTS)),
    Setting("int8", LpuOptions(context=CONTEXT, stored="int8"), len(TEXTS)),
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
    weights = FloatWeights(path)
    known = references(path, weights)
    found: dict[str, Any] = {
        "engine_kl_f32": worst(known.exact, known.engine),
        "engine_same_top1_f32": same_top1(known.exact, known.engine),
        "packed_engine_kl_f32": worst(known.exact, known.packed),
        "packed_engine_same_top1_f32": same_top1(known.exact, known.packed),
    }
    todo = [(setting.options, known.texts[: setting.texts]) for setting in settings]
    for setting, simulated in zip(settings, simulate(path, todo), strict=True):
        prefix = "" if setting.name == MAIN else f"{setting.name}_"
        found |= {f"{prefix}{key}": value for key, value in _figures(simulated, known).items()}
    return found


@dataclass(frozen=True, slots=True)
class References:
    """Tokens of each text, and logits behind each of them; see above."""

    texts: list[list[int]]
    engine: list[Logits]
    packed: list[Logits]
    exact: list[Logits]


def references(path: Path, weights: FloatWeights) -> References:
    """What others make of the texts."""
    texts, packed = engine_logits(path)
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        _, engine = engine_logits(write_unpacked(path, Path(folder) / "unpacked.gguf"))
    return References(texts, engine, packed, exact_logits(weights, texts))


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


def _figures(simulated: Simulated, known: References) -> dict[str, Any]:
    logits = simulated.logits
    return {
        "token_s": round(statistics.median(simulated.seconds), 3),
        "kl": worst(known.engine, logits),
        "same_top1": same_top1(known.engine, logits),
        "kl_f32": worst(known.exact, logits),
        "same_top1_f32": same_top1(known.exact, logits),
        "packed_kl": worst(known.packed, logits),
        "packed_same_top1": same_top1(known.packed, logits),
        "positions": len(simulated.seconds),
        "texts": len(logits),
        "weights": simulated.weights,
        "chips": simulated.chips,
        "token_us": round(simulated.token_us, 2),
        "compile_s": round(simulated.compile_s, 2),
        "lay_out_s": round(simulated.lay_out_s, 2),
    }


def worst(wanted: Sequence[Logits], found: Sequence[Logits]) -> float:
    """The largest divergence behind a text, of those that both have."""
    pairs = zip(wanted, found, strict=False)
    return round(max(divergence(one[-1], other[-1]) for one, other in pairs), 6)


def same_top1(wanted: Sequence[Logits], found: Sequence[Logits]) -> float:
    """Share of tokens behind which both have the same likeliest one."""
    pairs = zip(wanted, found, strict=False)
    same = [one.argmax(axis=1) == other.argmax(axis=1) for one, other in pairs]
    return round(float(np.mean(np.concatenate(same))), 4)


def divergence(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """KL divergence, in nats, of the distribution of some logits from that of others."""
    one, other = _log_softmax(wanted), _log_softmax(found)
    return float(np.sum(np.exp(one) * (one - other)))


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
