"""Rows of servers at full load: MLPerf inference, and TensorRT-LLM's own tables."""

from __future__ import annotations

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import Constants
from atoll.forecast.devices import shipped_devices
from atoll.forecast.models import shipped_models
from atoll.forecast.precisions import bits_of
from atoll.forecast.saturated import SaturatedRun, tokens_per_s
from bench.forecast.cases import Apart, Case, Key
from bench.forecast.rows import Row

LENGTHS = {
    "llama2-70b": (294.0, 294.45),
    "llama3.1-405b": (9400.0, 684.68),
    "llama3.1-8b": (778.0, 128.0),
    "mixtral-8x7b": (300.0, 145.9),
    "deepseek-r1": (800.0, 3886.2),
}
"""Mean tokens of prompts and answers of MLPerf's data sets. Llama 2's answers are those of the
reference's accuracy target (mlcommons/inference, `TOKENS_PER_SAMPLE`: 294.45); the others and
all prompts are from memory, to the digits given, and not checked here.
"""
KV_BITS = 8.0


def read(row: Row) -> Case | Apart | None:
    """Of a row at full load, its case."""
    if row.system.startswith("MLPerf") and row.unit == "tok/s":
        name = row.model.split(" ")[0].removesuffix("-99")
        if name not in LENGTHS:
            return Apart(row, "the lengths of its requests are not known")
        prompt, answer = LENGTHS[name]
        stack = "vLLM" if "vLLM" in row.system else "MLPerf"
        scenario = row.metric.removeprefix("MLPerf ")
        scenario = "" if scenario == "Offline" else scenario
        layout = ""
        if "MaxQ" in row.system:
            return Apart(row, "run with the boards' power capped to a level that is not stated")
    elif row.system.startswith("TensorRT-LLM") and row.batch == "max load":
        name, stack, scenario = row.model, "TensorRT-LLM", ""
        prompt, answer = row.prompt, row.answer
        layout = row.system.removeprefix("TensorRT-LLM ")
    else:
        return None
    try:
        shape = shipped_models().shapes.find(name)
        device = shipped_devices().find_in(row.device)
        bits = bits_of(row.precision)
    except BadRequest as problem:
        return Apart(row, str(problem))
    if not (row.n and prompt and answer):
        return Apart(row, "how many devices, or what lengths of requests, is not published")
    if device is None:
        return Apart(row, f"no device of the catalogue stands in {row.device!r}")
    if not (device.bandwidth and device.best_flops(bits)):
        return Apart(row, f"the memory bandwidth or compute of {device.name} is not published")
    if "gpt-oss" in shape.name:
        # Published in four bits; "FP8" is how it is computed with.
        bits = bits_of("MXFP4")
    run = SaturatedRun(
        *(shape, device, row.n, bits, KV_BITS, prompt, answer, stack, scenario, layout)
    )
    per = row.n if "GPU" in row.unit else 1

    def predict(constants: Constants) -> float:
        return tokens_per_s(run, constants) / per

    key: Key = "throughput_bounded" if scenario else "throughput"
    return Case(key, f"{device.vendor} {device.memory_kind}", row, predict)
