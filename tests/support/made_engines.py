"""Libraries that answer as the engine's do until a model is loaded, compiled on the spot.

They stand in for what cannot be had here: another build, GPUs, a build in
several files. Compiled against our own declarations of the known build.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from atoll.engine.cdef import CDEF
from atoll.engine.library import (
    CONTEXT_DEFAULTS,
    GGML_VERSION,
    LLAMA_VERSION,
    MODEL_DEFAULTS,
    TENSOR_OVERHEAD_BYTES,
)

CPU, GPU, INTEGRATED, ACCELERATOR = range(4)
GIB = 1024**3


@dataclass(frozen=True)
class MadeDevice:
    name: str
    kind: int = GPU
    free_bytes: int = 8 * GIB
    total_bytes: int = 8 * GIB
    description: str = ""


@dataclass(frozen=True)
class MadeEngine:
    """What the library says; `split` keeps the processor's part in a file beside it."""

    version: str = LLAMA_VERSION
    ggml: str = GGML_VERSION
    number: int | None = None
    overhead: int = TENSOR_OVERHEAD_BYTES
    devices: tuple[MadeDevice, ...] = ()
    split: bool = False
    needs_part: bool = False

    def build(self, folder: Path) -> Path:
        """Compile it to `libllama.so`; `needs_part` makes it need `libggml.so.0` of the folder."""
        parts = []
        if self.needs_part:
            part = folder / "libggml.so.0"
            compile_library(
                folder, "int ggml_part(void) { return 1; }\n", part, ["-Wl,-soname," + part.name]
            )
            parts = ["-Wl,--no-as-needed", str(part)]
        return compile_library(folder, self._source(), folder / "libllama.so", parts)

    def _source(self) -> str:
        devices = [MadeDevice("CPU", CPU, description="a processor"), *self.devices]
        rows = ",".join(
            f"{{{json.dumps(d.name)},{json.dumps(d.description)},{d.kind},"
            f"{d.free_bytes}u,{d.total_bytes}u}}"
            for d in devices
        )
        number = "" if self.number is None else f"int LLAMA_BUILD_NUMBER = {self.number};"
        foreign = (self.version, self.ggml) != (LLAMA_VERSION, GGML_VERSION)
        return "\n".join(
            [
                "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>",
                "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>",
                CDEF,
                number,
                f"const char * llama_version(void) {{ return {json.dumps(self.version)}; }}",
                f"const char * ggml_version(void) {{ return {json.dumps(self.ggml)}; }}",
                f"size_t ggml_tensor_overhead(void) {{ return {self.overhead}; }}",
                _defaults("llama_context", CONTEXT_DEFAULTS, abort=foreign),
                _defaults("llama_model", MODEL_DEFAULTS, abort=foreign),
                "static struct { const char *name, *text; int kind; size_t free, total; } d[] = {",
                rows + "};",
                f"static int loaded = {int(not self.split)};",
                BODY,
            ]
        )


BODY = """
void llama_log_set(log_callback c, void * u) { (void) c; (void) u; }
void llama_backend_init(void) {}
size_t ggml_backend_reg_count(void) { return loaded; }
void ggml_backend_load_all_from_path(const char * folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/libggml-cpu.so", folder);
    FILE * file = fopen(path, "rb");
    if (file) { loaded = 1; fclose(file); }
}
size_t ggml_backend_dev_count(void) { return loaded ? sizeof d / sizeof d[0] : 0; }
void * ggml_backend_dev_get(size_t i) { return &d[i]; }
void * ggml_backend_dev_by_type(int32_t kind) {
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) if (d[i].kind == kind) return &d[i];
    return NULL;
}
#define AT(p) (*(__typeof__(d[0]) *) (p))
const char * ggml_backend_dev_name(void * p) { return AT(p).name; }
const char * ggml_backend_dev_description(void * p) { return AT(p).text; }
int32_t ggml_backend_dev_type(void * p) { return AT(p).kind; }
void ggml_backend_dev_memory(void * p, size_t * free, size_t * total) {
    *free = AT(p).free; *total = AT(p).total;
}
"""


def _defaults(struct: str, values: Mapping[str, object], *, abort: bool) -> str:
    sets = "abort();" if abort else ""
    for field, value in values.items():
        sets += f" p.{field} = {str(value).lower() if isinstance(value, bool) else value};"
    head = f"{struct}_params {struct}_default_params(void)"
    return f"{head} {{ {struct}_params p; memset(&p, 0, sizeof p); {sets} return p; }}"


def compile_library(folder: Path, source: str, library: Path, extra: Sequence[str]) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a library with")
    code = folder / f"{library.name}.c"
    code.write_text(source)
    command = [compiler, "-shared", "-fPIC", "-O0", "-w", "-o", str(library), str(code), *extra]
    subprocess.run(command, check=True)
    return library
