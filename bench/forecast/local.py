"""Rows of one machine with one stream: llama.cpp's scoreboards, and ollama's."""

from __future__ import annotations

import re

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import Constants
from atoll.forecast.decode import DecodeRun, prompt_s, token_s, usual_runtime
from atoll.forecast.devices import Device, shipped_devices
from atoll.forecast.models import shipped_models
from bench.forecast.cases import Apart, Case
from bench.forecast.rows import Row

OLLAMA_DEFAULT = "Q4_K_M"
"""What ollama pulls unless told, where the model has no 4-bit format of its own."""
_HOSTED = re.compile(r"(?P<host>.*?)\s*\((?P<inner>[^()]*)\)\s*\((?P<unit>GPU|CPU)\)")
_SMALL_HOSTS = re.compile(r"\b(Pi [45]|Pi CM5|Pi 500\+|Pi 400|Radxa|Minisforum MS-R1|Orion)(?!\w)")
_RUNTIMES = {"llama.cpp Metal": "metal", "llama.cpp CUDA": "cuda", "llama.cpp Vulkan": "vulkan"}


def read(row: Row) -> Case | Apart | None:
    """Of a row of one machine that decodes or computes a prompt, its case."""
    if not row.system.startswith(("llama.cpp", "ollama")) or "RPC" in row.system:
        return None
    if row.unit != "tok/s" or not row.metric.startswith(("tg", "decode", "pp")):
        return None
    if row.batch != "1":
        return Apart(row, "not one stream")
    if "not stated" in row.device:
        return Apart(row, "which variant of the device it was is not stated")
    try:
        return _case(row)
    except BadRequest as problem:
        return Apart(row, str(problem))


def _case(row: Row) -> Case | Apart:
    models = shipped_models()
    shape = models.shapes.find(row.model)
    precision, packager = row.precision, ""
    if "ollama default" in precision:
        precision, packager = "MXFP4" if "gpt-oss" in row.model else OLLAMA_DEFAULT, "ollama"
    bits = models.bits(shape, precision, packager=packager)
    device, host, runtime = where(row)
    driver = row.device.split("(")[0].strip() if "(GPU)" in row.device else ""
    if device is None:
        return Apart(row, f"no device of the catalogue stands in {row.device!r}")
    if not device.bandwidth:
        return Apart(row, f"the memory bandwidth of {device.name} is not published")
    if row.n > 1:
        return Apart(row, "several devices in one machine")
    context = 64.0 if row.metric == "tg128" else (row.answer or 512.0) / 2
    stack = "ollama" if row.system == "ollama" else "2024" if row.out_len == "1024" else ""
    run = DecodeRun(
        *(shape, device, bits, runtime, precision.lower(), stack, host, driver, context),
    )

    if row.metric.startswith("pp"):
        tokens = row.prompt or 512.0
        if not device.flops.get("fp16"):
            return Apart(row, f"what {device.name} computes in a second is not published")
        return Case(
            "prefill",
            f"{runtime} {device.vendor}",
            row,
            lambda c: tokens / prompt_s(run, tokens, c),
        )

    def predict(constants: Constants) -> float:
        return 1 / token_s(run, constants)

    return Case("local", f"{runtime} {device.vendor}".strip(), row, predict)


def where(row: Row) -> tuple[Device | None, str, str]:
    """What computes, the kind of host that drives it, and the runtime."""
    catalogue = shipped_devices()
    match = _HOSTED.fullmatch(row.device)
    if match is None:
        device = catalogue.find_in(row.device)
        runtime = _RUNTIMES.get(row.system, "")
        return device, "", runtime or (usual_runtime(device) if device else "")
    inner = match["inner"]
    if match["unit"] == "CPU":
        return catalogue.find_in(row.device), "", "cpu"
    device = catalogue.find_in(inner) or catalogue.find_in(row.device)
    small = "small" if _SMALL_HOSTS.search(match["host"]) else ""
    if "Vulkan" in inner:
        return device, small, "vulkan"
    return device, small, usual_runtime(device) if device else ""
