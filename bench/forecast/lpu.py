"""Rows of systems of Groq's LPU that decode a language model."""

from __future__ import annotations

from collections.abc import Callable

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import Constants
from atoll.forecast.lpu import first_token_s, token_s
from atoll.forecast.models import shipped_models
from atoll.forecast.shapes import ModelShape
from bench.forecast.cases import Apart, Case
from bench.forecast.rows import Row

Formula = Callable[[ModelShape, int, Constants], float]


def _whole_s(shape: ModelShape, tokens: int, constants: Constants) -> float:
    return first_token_s(constants) + (tokens - 1) * token_s(shape, constants)


FORMULAS: dict[str, Formula] = {
    "tok/s per user": lambda shape, _n, c: 1 / token_s(shape, c),
    "output throughput per request p50 (incl. TTFT)": lambda s, n, c: n / _whole_s(s, n, c),
    "end-to-end latency p50": lambda s, n, c: 1e3 * _whole_s(s, n, c),
    "inter-token latency p50 (LLMPerf def., incl. TTFT)": lambda s, n, c: (
        1e3 * _whole_s(s, n, c) / n
    ),
    "TTFT p50": lambda _s, _n, c: 1e3 * first_token_s(c),
}


def read(row: Row) -> Case | Apart | None:
    """Of a row of an LPU system, its case."""
    if not row.system.startswith(("Groq", "LPX")):
        return None
    if row.system in ("Groq TSP", "Groq multi-TSP"):
        return Apart(row, "no language model that decodes: a schedule, not a forecast, tells it")
    if "advertised" in row.metric:
        return Apart(row, "a marketing figure")
    formula = FORMULAS.get(row.metric)
    if formula is None:
        return Apart(row, f"{row.metric!r} depends on a load that is not published")
    try:
        shape = shipped_models().shapes.find(row.model)
    except BadRequest as problem:
        return Apart(row, str(problem))
    run = row.source if "llmperf" in row.source else ""
    tokens = max(1, int(row.answer))

    def predict(constants: Constants) -> float:
        return formula(shape, tokens, constants)

    return Case("lpu", "Groq LPU v1", row, predict, run)
