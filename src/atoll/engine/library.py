"""The engine's shared library: found, checked, and opened once per process.

`xllamacpp` ships llama.cpp as one shared object that exports its C interface.
It is opened without importing the package. Structs are passed by value, so a
library of another build would corrupt memory; the check below refuses it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi

from atoll.domain.errors import EngineFault
from atoll.engine.cdef import CDEF

log = logging.getLogger(__name__)

PACKAGE = "xllamacpp"
PACKAGE_VERSION = "2026.10.11549"
LLAMA_VERSION = "0.6.0-dev"
HINT = f"install exactly {PACKAGE}=={PACKAGE_VERSION}"
LOG_LEVEL_ERROR = 4

STRUCT_BYTES = {"llama_context_params": 168, "llama_model_params": 80, "ggml_tensor": 336}
"""Sizes on 64-bit Linux and macOS, from the headers of build b11549."""

CONTEXT_DEFAULTS: dict[str, object] = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_rs_seq": 0,
    "n_outputs_max": 0,
    "n_outputs_max_per_seq": 1,
    "n_threads": 4,
    "n_threads_batch": 4,
    "ctx_type": 0,
    "rope_scaling_type": -1,
    "pooling_type": -1,
    "attention_type": -1,
    "flash_attn_type": -1,
    "rope_freq_base": 0.0,
    "rope_freq_scale": 0.0,
    "yarn_ext_factor": -1.0,
    "yarn_attn_factor": -1.0,
    "yarn_beta_fast": -1.0,
    "yarn_beta_slow": -1.0,
    "yarn_orig_ctx": 0,
    "defrag_thold": -1.0,
    "type_k": 1,
    "type_v": 1,
    "moe_cache_size": 0,
    "embeddings": False,
    "offload_kqv": True,
    "no_perf": True,
    "op_offload": True,
    "swa_full": True,
    "kv_unified": False,
    "n_samplers": 0,
}
MODEL_DEFAULTS: dict[str, object] = {
    "n_gpu_layers": -1,
    "split_mode": 1,
    "load_mode": -1,
    "lazy_mode": 1,
    "main_gpu": 0,
    "vocab_only": False,
    "check_tensors": False,
    "use_extra_bufts": True,
    "no_host": False,
    "no_alloc": False,
    "load_mtp": False,
}


@dataclass(frozen=True, slots=True)
class Library:
    """The opened library: cffi's `ffi` and `lib`, and what they were checked against."""

    ffi: Any
    lib: Any
    path: Path
    build: str


def find_library() -> Path:
    """Path of llama.cpp's shared object inside the installed package.

    Raises:
        EngineFault: The package is missing, of another version, or has no library.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EngineFault(f"the package {PACKAGE} is not installed", hint=HINT)
    version = importlib.metadata.version(PACKAGE)
    if version != PACKAGE_VERSION:
        raise EngineFault(f"{PACKAGE} is of version {version}, not {PACKAGE_VERSION}", hint=HINT)
    found = sorted(Path(spec.submodule_search_locations[0]).glob(f"{PACKAGE}*.so"))
    if len(found) != 1:
        raise EngineFault(f"{PACKAGE} holds {len(found)} shared objects, not one", hint=HINT)
    return found[0]


def check_library(ffi: Any, lib: Any) -> list[str]:
    """What differs from the build this binding was written for; empty when all fits."""
    problems = []
    version = ffi.string(lib.llama_version()).decode()
    if version != LLAMA_VERSION:
        problems.append(f"llama_version() is {version}, not {LLAMA_VERSION}")
    for name, expected in STRUCT_BYTES.items():
        if ffi.sizeof(name) != expected:
            problems.append(f"{name} has {ffi.sizeof(name)} bytes, not {expected}")
    for title, actual, defaults in (
        ("llama_context_default_params", lib.llama_context_default_params(), CONTEXT_DEFAULTS),
        ("llama_model_default_params", lib.llama_model_default_params(), MODEL_DEFAULTS),
    ):
        for field, expected_value in defaults.items():
            value = getattr(actual, field)
            if value != expected_value:
                problems.append(f"{title}().{field} is {value}, not {expected_value}")
    return problems


@functools.cache
def load_library() -> Library:
    """Open the engine once, checked.

    Raises:
        EngineFault: It is missing or is not the build this binding was written for.
    """
    path = find_library()
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    try:
        lib = ffi.dlopen(str(path))
        problems = check_library(ffi, lib)
    except (OSError, AttributeError) as error:
        raise EngineFault(f"the engine cannot be opened: {error}", hint=HINT) from error
    if problems:
        raise EngineFault("the engine is of another build: " + "; ".join(problems), hint=HINT)
    _route_log(ffi, lib)
    lib.llama_backend_init()
    return Library(ffi=ffi, lib=lib, path=path, build=f"{PACKAGE}-{PACKAGE_VERSION}")


_kept_alive: list[object] = []
"""C callbacks that the library holds on to for the life of the process."""


def _route_log(ffi: Any, lib: Any) -> None:
    """Send llama.cpp's errors to our log and drop its chatter."""

    def on_log(level: int, text: Any, _user_data: Any) -> None:
        if level >= LOG_LEVEL_ERROR:
            message = ffi.string(text).decode(errors="replace").strip()
            if message.strip("."):
                log.warning("engine.said text=%r", message)

    callback = ffi.callback("log_callback", on_log)
    _kept_alive.append(callback)
    lib.llama_log_set(callback, ffi.NULL)
