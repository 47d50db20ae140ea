"""The declarations: everything named in them exists in the library, structs as large as known."""

from __future__ import annotations

import re
from pathlib import Path

import cffi
import pytest

from atoll.engine import llama_abi
from atoll.engine.cdef import CDEF, abi_module
from atoll.engine.library import STRUCT_BYTES, load_library

FUNCTION = re.compile(r"^[\w ]+[ *](\w+)\([^;]*\);", re.MULTILINE)


def test_structs_are_as_large_as_in_the_known_build() -> None:
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    assert {name: ffi.sizeof(name) for name in STRUCT_BYTES} == STRUCT_BYTES


def test_what_processes_import_is_made_from_the_declarations() -> None:
    assert Path(llama_abi.__file__).read_text("utf-8") == abi_module()


@pytest.mark.engine
def test_every_declared_function_is_exported() -> None:
    lib = load_library().lib
    names = [m[1] for m in FUNCTION.finditer(CDEF) if not m[0].startswith("typedef")]
    assert len(names) > 20
    for name in names:
        assert getattr(lib, name)
