"""Rows of vLLM under load, on GPUs and TPUs: what a user sees between tokens, and before them.

Where a row is of a trace, the trace's mean load is not published with it: one number of
streams and one length of prompts are fitted for all rows of a trace.
"""

from __future__ import annotations

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import Constant, Constants
from atoll.forecast.devices import shipped_devices
from atoll.forecast.models import shipped_models
from atoll.forecast.precisions import bits_of
from atoll.forecast.serving import Load, Server, tpot_s, ttft_s
from bench.forecast.cases import Apart, Case
from bench.forecast.rows import Row

STREAMS = Constant("trace.streams", 20.0, (0.2, 0.8), "streams at once, of a usual load")
PROMPT = Constant("trace.prompt", 500.0, (0.2, 0.5), "tokens of a usual prompt")
ANSWER = 250.0
"""Tokens of a usual answer: ShareGPT's mean is 200 to 300 (vLLM, arXiv:2309.06180, figure 11)."""


def read(row: Row) -> Case | Apart | None:
    """Of a row of a server under load, its case."""
    if row.system.startswith("OCI"):
        return Apart(row, "how many GPUs a unit has is not published")
    if row.system not in ("vLLM", "vLLM TPU"):
        return None
    try:
        shape = shipped_models().shapes.find(row.model)
        bits = bits_of(row.precision or "BF16")
    except BadRequest as problem:
        return Apart(row, str(problem))
    device = shipped_devices().find_in(row.device)
    if device is None:
        return Apart(row, f"no device of the catalogue stands in {row.device!r}")
    if not row.n or (row.batch.isdecimal() and not (int(row.batch) and row.prompt and row.answer)):
        return Apart(row, "how many devices, or what lengths of requests, is not published")
    if not (device.bandwidth and device.best_flops(bits)):
        return Apart(row, f"the memory bandwidth or compute of {device.name} is not published")
    server = Server(shape, device, row.n, bits, 8.0 if "FP8 KV" in row.precision else 16.0)

    def load(constants: Constants) -> Load:
        if row.batch.isdecimal():
            return Load(float(row.batch), row.prompt, row.answer)
        return Load(constants.of(STREAMS, row.batch), constants.of(PROMPT, row.batch), ANSWER)

    if row.metric.startswith("TTFT"):
        if row.batch.isdecimal():
            return Apart(row, "all streams begin at once: a time in a queue, not of a server")
        return Case(*("serving_ttft", device.kind, row), lambda c: 1e3 * ttft_s(server, load(c), c))
    if row.unit == "ms":
        return Case("serving_tpot", device.kind, row, lambda c: 1e3 * tpot_s(server, load(c), c))
    return Case(
        *("serving_tpot", device.kind, row),
        lambda c: load(c).streams / tpot_s(server, load(c), c),
    )
