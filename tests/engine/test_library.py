"""The engine's self-check: anything but the known build is refused in words."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cffi
import pytest
from tests.support.made_engines import MadeEngine

from atoll.domain.errors import EngineFault
from atoll.engine import library
from atoll.engine.cdef import CDEF
from atoll.engine.devices import GPU, INTEGRATED, PROCESSOR
from atoll.engine.library import (
    CONTEXT_DEFAULTS,
    ENGINE_BUILD,
    GGML_VERSION,
    HINT,
    LIBRARY_VARIABLE,
    LLAMA_VERSION,
    MODEL_DEFAULTS,
    OWN_HINT,
    PACKAGE,
    PACKAGE_VERSION,
    STRUCT_BYTES,
    TENSOR_OVERHEAD_BYTES,
    check_library,
    device_pointer,
    device_title,
    find_library,
    list_devices,
    load_library,
    own_library,
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
        ggml_version=lambda: ffi.new("char[]", GGML_VERSION.encode()),
        ggml_tensor_overhead=lambda: TENSOR_OVERHEAD_BYTES,
        llama_context_default_params=lambda: context,
        llama_model_default_params=lambda: model,
    )


@pytest.mark.engine
def test_the_installed_engine_is_the_known_build() -> None:
    found = load_library()
    assert found is load_library()
    assert check_library(found.ffi, found.lib) == []
    assert found.build == ENGINE_BUILD == "llama.cpp-b11549"
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
    monkeypatch.setattr(library, "PACKAGE_VERSION", "1.0")
    with pytest.raises(EngineFault, match=rf"of version {PACKAGE_VERSION}, not 1\.0"):
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


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, fresh: None) -> Callable[[Path], None]:
    """Names a library as its owner would."""
    return lambda path: monkeypatch.setenv(LIBRARY_VARIABLE, str(path))


@pytest.mark.parametrize("empty", [True, False])
def test_the_package_is_taken_where_no_library_is_named(
    monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    if empty:
        monkeypatch.setenv(LIBRARY_VARIABLE, "")
    else:
        monkeypatch.delenv(LIBRARY_VARIABLE, raising=False)
    assert own_library() is None
    assert find_library().parent.name == PACKAGE


@pytest.mark.parametrize(
    ("name", "words"), [("absent.so", "which is not there"), ("", "names the folder")]
)
def test_a_library_named_that_is_no_file(
    tmp_path: Path, own: Callable[[Path], None], name: str, words: str
) -> None:
    own(tmp_path / name)
    for find in (find_library, load_library):
        with pytest.raises(EngineFault, match=words) as caught:
            find()
        assert str(tmp_path) in caught.value.problem
        assert caught.value.hint == OWN_HINT


def test_a_file_named_that_is_no_library(tmp_path: Path, own: Callable[[Path], None]) -> None:
    path = tmp_path / "libllama.so"
    path.write_bytes(b"not a shared object")
    own(path)
    with pytest.raises(EngineFault, match="cannot be opened") as caught:
        load_library()
    assert str(path) in caught.value.problem
    assert caught.value.hint == OWN_HINT


def test_a_library_named_that_is_not_the_engine(own: Callable[[Path], None]) -> None:
    own(Path(str(importlib.import_module("_cffi_backend").__file__)))
    with pytest.raises(EngineFault, match=r"cannot be opened.*llama_version"):
        load_library()


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (MadeEngine(version="0.7.1"), r"llama_version\(\) is 0\.7\.1, not 0\.6\.0-dev"),
        (MadeEngine(ggml="0.27.0"), r"ggml_version\(\) is 0\.27\.0, not 0\.26\.0"),
        (MadeEngine(number=11550), "its build number is 11550, not 11549"),
        (MadeEngine(overhead=376), r"ggml_tensor_overhead\(\) is 376, not 368"),
    ],
)
def test_a_library_named_of_another_build(
    tmp_path: Path, own: Callable[[Path], None], engine: MadeEngine, words: str
) -> None:
    """It aborts if asked for a struct that it may be wrong about."""
    own(engine.build(tmp_path))
    with pytest.raises(EngineFault, match="is of another build") as caught:
        load_library()
    assert re.search(words, caught.value.problem)
    assert caught.value.hint == OWN_HINT


@pytest.mark.parametrize("number", [None, 0, 11549])
def test_a_library_named_of_the_known_build(
    tmp_path: Path, own: Callable[[Path], None], number: int | None
) -> None:
    """Most builds keep their number elsewhere, and some do not know it."""
    path = MadeEngine(number=number).build(tmp_path)
    own(path)
    found = load_library()
    assert (found.path, found.build) == (path, ENGINE_BUILD)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="made for Linux's linker")
def test_libraries_that_it_needs_are_found_beside_it(
    tmp_path: Path, own: Callable[[Path], None]
) -> None:
    path = MadeEngine(needs_part=True).build(tmp_path)
    own(path)
    part = tmp_path / "libggml.so.0"
    away = part.rename(tmp_path / "away")
    with pytest.raises(EngineFault, match=r"cannot be opened.*libggml\.so\.0"):
        load_library()
    away.rename(part)
    (tmp_path / "libggml-odd.so").write_bytes(b"no library, and in nobody's way")
    assert load_library().path == path


@pytest.mark.parametrize("place", [".", "../bin"])
def test_parts_that_are_loaded_later_are_found(
    tmp_path: Path, own: Callable[[Path], None], place: str
) -> None:
    for folder in ("lib", "bin"):
        (tmp_path / folder).mkdir()
    path = MadeEngine(split=True).build(tmp_path / "lib")
    own(path)
    with pytest.raises(EngineFault, match="no part for processors"):
        load_library()
    (path.parent / place / "libggml-cpu.so").touch()
    assert load_library().lib.ggml_backend_reg_count() == 1


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


@pytest.mark.engine
def test_devices_of_the_real_library() -> None:
    library = load_library()
    found = list_devices(library)
    assert all(device.kind in (GPU, INTEGRATED) for device in found)
    assert [device_title(library, device.name) for device in found] == [d.title for d in found]
    assert device_title(library, "") == PROCESSOR
    assert device_pointer(library, "CPU") != library.ffi.NULL
    with pytest.raises(EngineFault, match="does not find the device CUDA99"):
        device_pointer(library, "CUDA99")
