"""From timed answers to the numbers of a row: speed, spread, waiting times.

Pure: no clock, no connection, no printing.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from atoll.client.timing import Timed
from atoll.client.workload import Trial
from atoll.domain.errors import BadRequest


class Rate(msgspec.Struct, frozen=True):
    """One row. `samples` are the tokens a second of each round, `sd` is their spread.

    `first_ms_p50` is the median time to the first token over all answers;
    `token_ms_p50` and `token_ms_p99` are taken over the times between tokens
    of all answers, and None where none was generated after the first.
    """

    test: str
    kind: str
    tokens: int
    depth: int
    streams: int
    rounds: int
    tokens_per_s: float
    sd: float
    samples: tuple[float, ...]
    first_ms_p50: float
    token_ms_p50: float | None
    token_ms_p99: float | None


@dataclass(frozen=True, slots=True)
class Round:
    """The answers of a trial's streams that ran at once, and their speed in tokens a second."""

    answers: tuple[Timed, ...]
    tokens_per_s: float

    @classmethod
    def of(cls, trial: Trial, answers: Sequence[Timed]) -> Round:
        """Compute the speed.

        Raises:
            BadRequest: The answers did not run at once, or came in one piece.
        """
        read = prompt_speed if trial.kind == "pp" else answer_speed
        return cls(tuple(answers), read(trial, answers))


def prompt_speed(trial: Trial, answers: Sequence[Timed]) -> float:
    """Prompt tokens a second, from the first request to the last stream's first token.

    So it contains the way to the server and the choice of one token. llama-bench's
    number of the same name contains neither, as its README says.

    Source: llama.cpp, tools/batched-bench/README.md: S_PP = B * PP / T_PP.
    """
    began_s = min(answer.asked_s for answer in answers)
    read_s = max(answer.arrivals_s[0] for answer in answers)
    return len(answers) * trial.prompt_tokens / (read_s - began_s)


def answer_speed(trial: Trial, answers: Sequence[Timed]) -> float:
    """Generated tokens a second of all streams together, while all of them run.

    That is from the last one's first token to the first one's last token. For
    one stream it is (tokens - 1) / (time of the last - time of the first).

    Source: llama.cpp, tools/batched-bench/README.md: S_TG = B * TG / T_TG, where all
    prompts are read before; here they are read at different times.

    Raises:
        BadRequest: There was no such time.
    """
    start_s = max(answer.arrivals_s[0] for answer in answers)
    end_s = min(answer.arrivals_s[-1] for answer in answers)
    if end_s > start_s:
        inside = sum(answer.tokens_between(start_s, end_s) for answer in answers)
        return inside / (end_s - start_s)
    if len(answers) == 1:
        raise BadRequest(
            f"{trial.name}: the answer came in one piece, so it cannot be timed",
            hint="the server, or a proxy before it, does not stream; or take a longer --generate",
        )
    raise BadRequest(
        f"{trial.name}: the {len(answers)} answers never ran at the same time",
        hint="ask for fewer --streams, or for a longer --generate",
    )


def rate_of(trial: Trial, rounds: Sequence[Round]) -> Rate:
    """The row of a trial.

    Mean and sample standard deviation over the rounds, as llama-bench has
    them; percentiles of the times between arrivals, which vLLM's benchmark
    calls inter-token latency.

    Source: llama.cpp, tools/llama-bench/README.md (average and standard deviation; with
    Bessel's correction, llama.cpp #2626); vLLM, vllm/benchmarks/serve.py (TTFT, ITL).
    """
    samples = tuple(one.tokens_per_s for one in rounds)
    answers = [answer for one in rounds for answer in one.answers]
    gaps_ms = [1e3 * gap for answer in answers for gap in answer.gaps_s]
    return Rate(
        test=trial.name,
        kind=trial.kind,
        tokens=trial.tokens,
        depth=trial.depth,
        streams=trial.streams,
        rounds=len(rounds),
        tokens_per_s=statistics.fmean(samples),
        sd=statistics.stdev(samples) if len(samples) > 1 else 0.0,
        samples=samples,
        first_ms_p50=1e3 * statistics.median(answer.first_s for answer in answers),
        token_ms_p50=percentile(gaps_ms, 50) if gaps_ms else None,
        token_ms_p99=percentile(gaps_ms, 99) if gaps_ms else None,
    )


def percentile(samples: Sequence[float], percent: float) -> float:
    """The sample below which `percent` of them lie, between two by a straight line.

    Source: R. J. Hyndman and Y. Fan, Sample Quantiles in Statistical Packages, 1996,
    definition 7, which is numpy's and so vLLM's.
    """
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
