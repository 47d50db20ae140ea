"""Choosing a token from one row of logits.

The order is llama.cpp's: bias, penalties, top_k, top_p, min_p, temperature,
draw. The candidates therefore depend on the model's own distribution and never
on the temperature, and a request means the same here and on llama.cpp's own
server, which serves models that cannot be cut. (OpenAI's order, temperature
before top_p, differs only where both are away from 1.)

Chance is a function of (seed, position) and nothing else, so a draft, a
failover or a restart that samples a position again draws the same number.

Log-probabilities are of the model's own distribution: the log-softmax of the
logits as they came from the model, before bias, penalties and temperature.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest, EngineFault
from atoll.domain.generation import SamplingParams

Row = NDArray[np.float32]
"""One row of logits, shape (n_vocab,), float32."""
Ids = NDArray[np.intp]

GREEDY_BELOW = 1e-5
"""A temperature below this is greedy: dividing by it would leave float's range."""
LOGIT_MAX = 1e30
"""Bias and penalties move a logit no further, so that differences stay finite."""
CHANCE_BITS = 53
GROUPS = 1024
"""Tokens are looked over in this many groups to find the best few; a power of two."""
BLOCK = 256
"""Probabilities are summed in blocks of this size before the drawn one is searched."""
NEAR_TOP = (4.0, 8.0, 12.0)
"""Distances from the best logit within which a nucleus is looked for first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token; its log-probability and the best ones' if they were asked for."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one generation.

    Args:
        params: How to choose.
        prompt: The prompt's token ids; the repeat penalty looks at them.
    """

    def __init__(self, params: SamplingParams, prompt: Sequence[int] = ()) -> None:
        self._params = params
        self._bias_ids = np.array([token for token, _ in params.logit_bias], np.intp)
        biases = [min(max(bias, -LOGIT_MAX), LOGIT_MAX) for _, bias in params.logit_bias]
        self._bias = np.array(biases, np.float32)
        self._counts_used = bool(params.frequency_penalty or params.presence_penalty)
        self._counts = _Counts()
        self._repeat_used = params.repeat_penalty != 1.0 and params.repeat_last_n > 0
        n = params.repeat_last_n if self._repeat_used else 0
        self._recent: deque[int] = deque(prompt[-n:] if n else (), maxlen=n)
        self._changes = bool(self._bias_ids.size) or self._counts_used or self._repeat_used

    def accept(self, token: int) -> None:
        """Take a token into the generation; penalties count it from now on."""
        if self._counts_used:
            self._counts.add(token)
        if self._repeat_used:
            self._recent.append(token)

    def sample(self, logits: Row, position: int) -> Choice:
        """Choose the token at `position`; does not change the sampler.

        Args:
            logits: Shape (n_vocab,), float32; left as it is.
            position: Position of the new token in its session.

        Raises:
            EngineFault: A logit is NaN or infinite.
            BadRequest: A biased token is outside the vocabulary.
        """
        best = int(logits.argmax())
        # argmax and min both stop at a NaN, so these two see every bad value.
        if not (math.isfinite(logits[best]) and math.isfinite(logits.min())):
            raise EngineFault(
                "the model's output holds NaN or infinity",
                hint="the model file may be damaged; pull it again",
            )
        params = self._params
        adjusted = logits
        if self._changes:
            adjusted = self._adjust(logits)
            best = int(adjusted.argmax())
        if params.temperature < GREEDY_BELOW or params.top_k == 1:
            token = best
        else:
            token = _draw(adjusted, float(adjusted[best]), params, position)
        if params.logprobs is None:
            return Choice(token)
        return _with_logprobs(token, logits, params.logprobs)

    def _adjust(self, logits: Row) -> Row:
        """A copy of the logits with bias and penalties."""
        params, adjusted = self._params, logits.copy()
        if self._bias_ids.size:
            if int(self._bias_ids.max()) >= logits.size or int(self._bias_ids.min()) < 0:
                raise BadRequest(
                    f"logit_bias names a token outside the vocabulary of {logits.size}",
                    param="logit_bias",
                )
            np.add.at(adjusted, self._bias_ids, self._bias)
        if self._repeat_used and self._recent:
            ids = np.fromiter(set(self._recent), np.intp)
            values, penalty = adjusted[ids].astype(np.float64), params.repeat_penalty
            with np.errstate(over="ignore"):
                values = np.where(values > 0, values / penalty, values * penalty)
            adjusted[ids] = values.clip(-LOGIT_MAX, LOGIT_MAX)
        if self._counts_used:
            ids, counts = self._counts.view()
            adjusted[ids] -= counts * np.float32(params.frequency_penalty)
            adjusted[ids] -= np.float32(params.presence_penalty)
        return adjusted


class _Counts:
    """How often each token was generated, as arrays that grow by doubling."""

    def __init__(self) -> None:
        self._place: dict[int, int] = {}
        self._ids = np.zeros(64, np.intp)
        self._counts = np.zeros(64, np.float32)

    def add(self, token: int) -> None:
        place = self._place.setdefault(token, len(self._place))
        if place == self._ids.size:
            self._ids = np.concatenate((self._ids, np.zeros_like(self._ids)))
            self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
        self._ids[place] = token
        self._counts[place] += 1

    def view(self) -> tuple[Ids, Row]:
        n = len(self._place)
        return self._ids[:n], self._counts[:n]


def chance(seed: int, position: int) -> float:
    """A number in [0, 1), evenly distributed, fixed by its arguments.

    BLAKE2b as a counter-based generator: key the seed, counter the position.
    """
    key = struct.pack("<QQ", seed % 2**64, position)
    digest = hashlib.blake2b(key, digest_size=8, person=b"atoll-sample-1").digest()
    return float((int.from_bytes(digest, "little") >> (64 - CHANCE_BITS)) * 2.0**-CHANCE_BITS)


def best_tokens(row: Row, k: int) -> Ids:
    """Ids of the `k` largest values, largest first; of equal ones the lowest id first.

    The k-th largest of the groups' maxima is no larger than the k-th largest
    value, so only what reaches it is sorted.
    """
    n = row.size
    depth = n // GROUPS
    if k <= 0:
        return np.zeros(0, np.intp)
    if depth >= 2 and k <= GROUPS // 2:
        maxima = row[: depth * GROUPS].reshape(depth, GROUPS).max(axis=0)
        threshold = np.partition(maxima, GROUPS - k)[GROUPS - k]
        ids = np.flatnonzero(row >= threshold)
    elif k < n:
        ids = np.flatnonzero(row >= np.partition(row, n - k)[n - k])
    else:
        ids = np.arange(n)
    order = np.argsort(-row[ids], kind="stable")
    best: Ids = ids[order[:k]]
    return best


def _draw(row: Row, best: float, params: SamplingParams, position: int) -> int:
    """Filter the candidates, apply the temperature, and draw one."""
    ids: Ids | None = None
    values = row
    if 0 < params.top_k < row.size:
        ids = np.sort(best_tokens(row, params.top_k))
        values = row[ids]
    if params.top_p < 1:
        kept = _nucleus(values, best, params.top_p)
        ids, values = kept if ids is None else ids[kept], values[kept]
    if params.min_p > 0:
        kept = np.flatnonzero(values >= best + math.log(min(params.min_p, 1.0)))
        ids, values = kept if ids is None else ids[kept], values[kept]
    # Far-off candidates underflow to weight 0, as they should.
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((values - np.float32(best)) * np.float32(1 / params.temperature))
    place = _pick(weights, chance(params.seed, position))
    return place if ids is None else int(ids[place])


def _nucleus(values: Row, best: float, top_p: float) -> Ids:
    """Places of the fewest likeliest candidates that hold `top_p` of the probability.

    Of equal ones at the edge the first places are kept. Nearly all of the
    probability lies close to the best logit, so candidates there are tried
    before all of them are sorted.
    """
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp(values - np.float32(best))
    wanted = top_p * float(weights.sum(dtype=np.float64))
    for distance in NEAR_TOP:
        near = weights >= np.float32(math.exp(-distance))
        candidates = weights[near]
        mass = np.cumsum(np.sort(candidates)[::-1], dtype=np.float64)
        if mass[-1] >= wanted:
            break
    else:
        candidates = weights
        mass = np.cumsum(np.sort(candidates)[::-1], dtype=np.float64)
    n = min(int(np.searchsorted(mass, wanted)) + 1, candidates.size)
    edge = np.partition(candidates, candidates.size - n)[candidates.size - n]
    kept = np.flatnonzero(weights >= edge)
    surplus = kept.size - n
    if surplus:
        at_edge = np.flatnonzero(weights[kept] == edge)
        kept = np.delete(kept, at_edge[at_edge.size - surplus :])
    return kept


def _pick(weights: Row, u: float) -> int:
    """The place at which the running sum of `weights` passes `u` of their sum.

    Sums over blocks first, so that one block only is summed value by value.
    """
    starts = np.arange(0, weights.size, BLOCK)
    sums = np.cumsum(np.add.reduceat(weights, starts), dtype=np.float64)
    target = u * sums[-1]
    block = min(int(np.searchsorted(sums, target, side="right")), starts.size - 1)
    before = float(sums[block - 1]) if block else 0.0
    inside = np.cumsum(weights[block * BLOCK : (block + 1) * BLOCK], dtype=np.float64)
    place = int(np.searchsorted(inside, target - before, side="right"))
    if place >= inside.size:
        # The block's sum was rounded up past its parts: take the last with any weight.
        place = int(np.searchsorted(inside, inside[-1]))
    return block * BLOCK + place


def _with_logprobs(token: int, logits: Row, n: int) -> Choice:
    top_ids = best_tokens(logits, n)
    best = np.float32(logits[top_ids[0]] if n else logits.max())
    with np.errstate(over="ignore", under="ignore"):
        log_sum = float(best) + math.log(float(np.exp(logits - best).sum()))
    top = tuple((int(i), float(logits[i]) - log_sum) for i in top_ids)
    return Choice(token, float(logits[token]) - log_sum, top)
