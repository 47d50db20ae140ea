"""Texts given to simulated chips token by token, in several processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atoll.engine.float_weights import FloatWeights
from atoll.engine.lpu_session import LpuOptions, LpuSession, place_model
from atoll.engine.threads import usable_cores
from bench.local import talk

WORKERS = 2
"""Processes at most, each with chips of its own: a few gigabytes together."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """Logits behind each token of each text, shape (tokens, vocabulary); seconds that each token
    took here, and what was compiled.
    """

    logits: list[NDArray[np.float32]]
    seconds: list[float]
    weights: str
    chips: int
    token_us: float
    compile_s: float
    lay_out_s: float


def simulate(
    path: Path, settings: Sequence[tuple[LpuOptions, Sequence[Sequence[int]]]]
) -> list[Simulated]:
    """What chips of each setting make of its texts.

    Args:
        path: The model.
        settings: Chips, and tokens of texts.
    """
    workers = min(WORKERS, usable_cores())
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        begun = [
            [
                pool.submit(_simulate, path, options, texts[first::workers])
                for first in range(min(workers, len(texts)))
            ]
            for options, texts in settings
        ]
        return [_joined([part.result() for part in parts]) for parts in begun]


def _joined(parts: Sequence[Simulated]) -> Simulated:
    """Texts back in their order; times of compiling and laying out are the longest."""
    first = parts[0]
    count = sum(len(part.logits) for part in parts)
    return Simulated(
        [parts[n % len(parts)].logits[n // len(parts)] for n in range(count)],
        [seconds for part in parts for seconds in part.seconds],
        first.weights,
        first.chips,
        first.token_us,
        max(part.compile_s for part in parts),
        max(part.lay_out_s for part in parts),
    )


def _simulate(path: Path, options: LpuOptions, texts: Sequence[Sequence[int]]) -> Simulated:
    weights = FloatWeights(path)
    begun = time.perf_counter()
    placed = place_model(weights, options)
    compiled = time.perf_counter()
    session = LpuSession(weights, placed)
    laid = time.perf_counter()
    stored, seconds, logits = placed.compiled.stored, list[float](), []
    for n, text in enumerate(texts):
        session.reset()
        rows = []
        for token in text:
            start = time.perf_counter()
            rows.append(session.token(token))
            seconds.append(time.perf_counter() - start)
        logits.append(np.stack(rows))
        talk(f"{stored}: text {n + 1} of {len(texts)}, {seconds[-1]:.2f} s a token")
    return Simulated(
        logits,
        seconds,
        stored,
        placed.chips_used,
        1e6 * placed.token_s,
        compiled - begun,
        laid - compiled,
    )
