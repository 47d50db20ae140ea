"""The engine's shared library: found, checked, and opened once per process.

`xllamacpp` ships llama.cpp as one shared object that exports its C interface.
It is opened without importing the package. ATOLL_LLAMA_LIBRARY names another
library of the same build, such as one made for a GPU. Structs are passed by
value, so a library of another build would corrupt memory; the check below
refuses it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.domain.errors import EngineFault
from atoll.engine import llama_abi
from atoll.engine.devices import GPU, INTEGRATED, PROCESSOR, Device

log = logging.getLogger(__name__)

PACKAGE = "xllamacpp"
PACKAGE_VERSION = "2026.10.11549"
LLAMA_VERSION = "0.6.0-dev"
GGML_VERSION = "0.26.0"
LLAMA_BUILD = PACKAGE_VERSION.rpartition(".")[2]
ENGINE_BUILD = f"llama.cpp-b{LLAMA_BUILD}"
"""What gateway and nodes must have in common: llama.cpp's build, for any kind of processor."""
HINT = f"install exactly {PACKAGE}=={PACKAGE_VERSION}"

LIBRARY_VARIABLE = "ATOLL_LLAMA_LIBRARY"
OWN_HINT = (
    f"name libllama of llama.cpp's tag b{LLAMA_BUILD}, or unset {LIBRARY_VARIABLE} "
    "for the packaged engine"
)
LOG_LEVEL_ERROR = 4
DEVICE_TYPE_CPU = 0
GPU_KINDS = {1: GPU, 2: INTEGRATED}
"""enum ggml_backend_dev_type in ggml-backend.h; other devices only help the processor."""

TENSOR_OVERHEAD_BYTES = 368
"""What the library itself says of `ggml_tensor`: 336 bytes, and 32 for its entry in a list."""

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


def own_library() -> Path | None:
    """The library that ATOLL_LLAMA_LIBRARY names; None where it is unset or empty.

    Raises:
        EngineFault: There is no such file.
    """
    named = os.environ.get(LIBRARY_VARIABLE, "")
    if not named:
        return None
    path = Path(named).expanduser().absolute()
    if path.is_dir():
        raise EngineFault(f"{LIBRARY_VARIABLE} names the folder {path}", hint=OWN_HINT)
    if not path.is_file():
        raise EngineFault(f"{LIBRARY_VARIABLE} names {path}, which is not there", hint=OWN_HINT)
    return path


def find_library() -> Path:
    """Path of llama.cpp's library: the one named by its owner, or the package's.

    Raises:
        EngineFault: It is not there, or the package is missing or of another version.
    """
    return own_library() or _packaged_library()


def _packaged_library() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EngineFault(f"the package {PACKAGE} is not installed", hint=HINT)
    version = _packaged_version(Path(spec.submodule_search_locations[0]))
    if version != PACKAGE_VERSION:
        raise EngineFault(f"{PACKAGE} is of version {version}, not {PACKAGE_VERSION}", hint=HINT)
    found = sorted(Path(spec.submodule_search_locations[0]).glob(f"{PACKAGE}*.so"))
    if len(found) != 1:
        raise EngineFault(f"{PACKAGE} holds {len(found)} shared objects, not one", hint=HINT)
    return found[0]


def _packaged_version(package: Path) -> str:
    """The package's version.

    Each stage process asks for it, and to import `importlib.metadata` and read what pip
    noted costs it some 40 ms; that the folder of those notes is there says it too.
    """
    if (package.parent / f"{PACKAGE}-{PACKAGE_VERSION}.dist-info").is_dir():
        return PACKAGE_VERSION
    from importlib.metadata import version  # noqa: PLC0415 - see above

    return version(PACKAGE)


def check_library(ffi: Any, lib: Any) -> list[str]:
    """What differs from the build this binding was written for; empty when all fits.

    Functions that return structs are called only in a library whose versions
    fit: one of another build could write beyond them.
    """
    problems = []
    for name, known in (("llama_version", LLAMA_VERSION), ("ggml_version", GGML_VERSION)):
        version = ffi.string(getattr(lib, name)()).decode(errors="replace")
        if version != known:
            problems.append(f"{name}() is {version}, not {known}")
    number = _build_number(lib)
    if number and str(number) != LLAMA_BUILD:
        problems.append(f"its build number is {number}, not {LLAMA_BUILD}")
    if problems:
        return problems
    overhead = lib.ggml_tensor_overhead()
    if overhead != TENSOR_OVERHEAD_BYTES:
        problems.append(f"ggml_tensor_overhead() is {overhead}, not {TENSOR_OVERHEAD_BYTES}")
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


def _build_number(lib: Any) -> int:
    """llama.cpp's build number where the library holds it and knows it, else 0."""
    try:
        return int(lib.LLAMA_BUILD_NUMBER)
    except (AttributeError, llama_abi.ffi.error):
        return 0


@functools.cache
def load_library() -> Library:
    """Open the engine once, checked.

    Raises:
        EngineFault: It is missing or is not the build this binding was written for.
    """
    own = own_library()
    path = own or _packaged_library()
    name, hint = (str(path), OWN_HINT) if own else ("the engine", HINT)
    ffi: Any = llama_abi.ffi
    try:
        lib = _open(ffi, path)
        problems = check_library(ffi, lib)
    except (OSError, ffi.error) as error:
        raise EngineFault(f"{name} cannot be opened: {error}", hint=hint) from error
    if problems:
        raise EngineFault(f"{name} is of another build: " + "; ".join(problems), hint=hint)
    _route_log(ffi, lib)
    _load_backends(lib, path)
    if lib.ggml_backend_dev_by_type(DEVICE_TYPE_CPU) == ffi.NULL:
        raise EngineFault(f"{name} has no part for processors (libggml-cpu) beside it", hint=hint)
    lib.llama_backend_init()
    return Library(ffi=ffi, lib=lib, path=path, build=ENGINE_BUILD)


def _open(ffi: Any, path: Path) -> Any:
    """Open the library; where it does not find those it needs, open the ones beside it first.

    The system's linker knows a library that is open already by its name. ctypes
    goes first, since cffi looks elsewhere for what it cannot open, and for that
    makes files that a confined child could not remove.
    """
    if not _opens(path):
        waiting = sorted(p for s in ("so*", "dylib") for p in path.parent.glob(f"libggml*.{s}"))
        while left := [part for part in waiting if not _opens(part)]:
            if len(left) == len(waiting):
                break
            waiting = left
        ctypes.CDLL(str(path))
    return ffi.dlopen(str(path))


def _opens(path: Path) -> bool:
    try:
        ctypes.CDLL(str(path))
    except OSError:
        return False
    return True


def _load_backends(lib: Any, path: Path) -> None:
    """Load the parts for each kind of processor, where the build keeps them in files of their own.

    Such a build (GGML_BACKEND_DL) knows no backend when it is opened. They lie
    beside the library or, once installed, in `bin` (ggml/src/CMakeLists.txt).
    """
    if lib.ggml_backend_reg_count() > 0:
        return
    for folder in (path.parent, path.resolve().parent, path.parent.parent / "bin"):
        if any(folder.glob("libggml-cpu*")):
            lib.ggml_backend_load_all_from_path(str(folder).encode())
            return


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


def list_devices(library: Library) -> tuple[Device, ...]:
    """The GPUs that the library can use on this machine, in its order."""
    ffi, lib = library.ffi, library.lib
    free, total = ffi.new("size_t *"), ffi.new("size_t *")
    found = []
    for pointer in _pointers(library):
        kind = GPU_KINDS.get(lib.ggml_backend_dev_type(pointer))
        if kind is not None:
            lib.ggml_backend_dev_memory(pointer, free, total)
            found.append(
                Device(
                    _text(ffi, lib.ggml_backend_dev_name(pointer)),
                    _text(ffi, lib.ggml_backend_dev_description(pointer)),
                    *(kind, int(free[0]), int(total[0])),
                )
            )
    return tuple(found)


def device_pointer(library: Library, name: str) -> Any:
    """The `ggml_backend_dev_t` of a GPU by its name.

    Raises:
        EngineFault: It is not there (any more).
    """
    ffi, lib = library.ffi, library.lib
    for pointer in _pointers(library):
        if _text(ffi, lib.ggml_backend_dev_name(pointer)) == name:
            return pointer
    raise EngineFault(
        f"the engine does not find the device {name}",
        hint="use --gpu none, or see whether the GPU's driver works",
    )


def device_title(library: Library, name: str) -> str:
    """What a device is called for people; the processor for an empty name."""
    if not name:
        return PROCESSOR
    return next((d.title for d in list_devices(library) if d.name == name), name)


def _pointers(library: Library) -> list[Any]:
    lib = library.lib
    return [lib.ggml_backend_dev_get(i) for i in range(lib.ggml_backend_dev_count())]


def _text(ffi: Any, chars: Any) -> str:
    return str(ffi.string(chars).decode(errors="replace")) if chars != ffi.NULL else ""
