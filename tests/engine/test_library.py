"""The engine's self-check: anything but the known build is refused in words."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cffi
import pytest

from atoll.domain.errors import EngineFault
from atoll.engine import library
from atoll.engine.cdef import CDEF
from atoll.engine.library import (
    CONTEXT_DEFAULTS,
    HINT,
    LLAMA_VERSION,
    MODEL_DEFAULTS,
    PACKAGE,
    PACKAGE_VERSION,
    STRUCT_BYTES,
    check_library,
    find_library,
    load_library,
)


@pytest.fixture
def fresh() -> Iterator[None]:
    """`load_library` opens anew within a test; what was open before stays in use after it."""
    load_library.cache_clear()
    yield
    load_library.cache_clear()


@pytest.fixture
def ffi() -> cffi.FFI:
    found = cffi.FFI()
    found.cdef(CDEF)
    return found


def fake(ffi: Any, changes: dict[str, object], version: str = LLAMA_VERSION) -> SimpleNamespace:
    """A library that answers as the known build does, but for `changes`."""
    text = ffi.new("char[]", version.encode())
    context = SimpleNamespace(**(CONTEXT_DEFAULTS | changes))
    model = SimpleNamespace(**(MODEL_DEFAULTS | changes))
    return SimpleNamespace(
        llama_version=lambda: text,
        llama_context_default_params=lambda: context,
        llama_model_default_params=lambda: model,
    )


@pytest.mark.engine
def test_the_installed_engine_is_the_known_build() -> None:
    found = load_library()
    assert found is load_library()
    assert check_library(found.ffi, found.lib) == []
    assert found.build == f"{PACKAGE}-{PACKAGE_VERSION}"
    assert found.path == find_library()


def test_the_known_defaults_pass(ffi: cffi.FFI) -> None:
    assert check_library(ffi, fake(ffi, {})) == []


def test_another_version_is_named(ffi: cffi.FFI) -> None:
    problems = check_library(ffi, fake(ffi, {}, "0.7.1"))
    assert problems == [f"llama_version() is 0.7.1, not {LLAMA_VERSION}"]


@pytest.mark.parametrize("field", ["n_batch", "swa_full", "moe_cache_size", "yarn_ext_factor"])
def test_another_default_of_a_context_is_named(ffi: cffi.FFI, field: str) -> None:
    problems = check_library(ffi, fake(ffi, {field: 77}))
    known = CONTEXT_DEFAULTS[field]
    assert problems == [f"llama_context_default_params().{field} is 77, not {known}"]


def test_every_default_is_compared(ffi: cffi.FFI) -> None:
    fields = CONTEXT_DEFAULTS | MODEL_DEFAULTS
    problems = " ".join(check_library(ffi, fake(ffi, dict.fromkeys(fields, "odd"))))
    assert all(f".{field} is odd" in problems for field in fields)


def test_another_size_of_a_struct_is_named(ffi: cffi.FFI) -> None:
    class Resized:
        string = ffi.string

        def sizeof(self, name: str) -> int:
            return STRUCT_BYTES[name] + 8 * (name == "llama_model_params")

    assert check_library(Resized(), fake(ffi, {})) == ["llama_model_params has 88 bytes, not 80"]


def test_a_missing_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EngineFault, match=f"{PACKAGE} is not installed") as caught:
        load_library()
    assert caught.value.hint == HINT == f"install exactly {PACKAGE}=={PACKAGE_VERSION}"


def test_another_version_of_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "1.0")
    with pytest.raises(EngineFault, match=r"of version 1\.0"):
        find_library()


def _package_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.machinery.ModuleSpec(PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)


def test_a_package_without_its_library_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _package_at(tmp_path, monkeypatch)
    with pytest.raises(EngineFault, match="0 shared objects"):
        find_library()


def test_a_library_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    (tmp_path / f"{PACKAGE}.abi3.so").write_bytes(b"not a shared object")
    _package_at(tmp_path, monkeypatch)
    with pytest.raises(EngineFault, match="cannot be opened") as caught:
        load_library()
    assert caught.value.hint == HINT


def test_a_library_of_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    """A shared object without llama.cpp's functions in it."""
    backend = importlib.import_module("_cffi_backend").__file__
    (tmp_path / f"{PACKAGE}.abi3.so").symlink_to(str(backend))
    _package_at(tmp_path, monkeypatch)
    with pytest.raises(EngineFault, match=r"cannot be opened.*llama_version"):
        load_library()


@pytest.mark.engine
def test_another_build_is_refused_whole(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    monkeypatch.setitem(CONTEXT_DEFAULTS, "n_ubatch", 1)
    monkeypatch.setitem(STRUCT_BYTES, "ggml_tensor", 1)
    with pytest.raises(EngineFault, match="another build") as caught:
        load_library()
    assert "n_ubatch is 512, not 1" in caught.value.problem
    assert "ggml_tensor has 336 bytes, not 1" in caught.value.problem
    assert caught.value.hint == HINT


@pytest.mark.engine
def test_the_engines_errors_reach_the_log_and_its_chatter_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = load_library()
    caplog.set_level(logging.DEBUG)
    params = found.lib.llama_model_default_params()
    missing = str(tmp_path / "absent.gguf").encode()
    assert found.lib.llama_model_load_from_file(missing, params) == found.ffi.NULL
    said = [r for r in caplog.records if r.name == library.__name__]
    assert said
    assert all(r.levelno == logging.WARNING for r in said)
    assert "absent.gguf" in caplog.text
