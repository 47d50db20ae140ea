"""The declarations: everything named in them exists in the library, structs as large as known."""

from __future__ import annotations

import re

import cffi
import pytest

from atoll.engine.cdef import CDEF
from atoll.engine.library import STRUCT_BYTES, load_library

FUNCTION = re.compile(r"^[\w ]+[ *](\w+)\([^;]*\);", re.MULTILINE)


def test_structs_are_as_large_as_in_the_known_build() -> None:
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    assert {name: ffi.sizeof(name) for name in STRUCT_BYTES} == STRUCT_BYTES


@pytest.mark.engine
def test_every_declared_function_is_exported() -> None:
    lib = load_library().lib
    names = [m[1] for m in FUNCTION.finditer(CDEF) if not m[0].startswith("typedef")]
    assert len(names) > 20
    for name in names:
        assert getattr(lib, name)
