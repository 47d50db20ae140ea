from __future__ import annotations

import importlib
import importlib.metadata
import os
import time
from types import SimpleNamespace
from typing import Any

import pytest

from atoll.domain.errors import LinkFault
from atoll.net import iroh_patch

iroh = pytest.importorskip("iroh", reason="no wheel for this system")


@pytest.fixture
def ffi() -> Any:
    iroh_patch.load()
    return importlib.import_module("iroh.iroh_ffi")


def as_shipped(ffi: Any, value: bytes) -> Any:
    """The conversion that the wheel came with, which is still there below ours."""
    return super(ffi._UniffiFfiConverterBytes, ffi._UniffiFfiConverterBytes).lower(value)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 255, 256, 8192, 1 << 20])
def test_content_is_that_of_the_shipped_conversion(ffi: Any, length: int) -> None:
    value = os.urandom(length)
    converter = ffi._UniffiFfiConverterBytes
    assert converter.lift(converter.lower(value)) == value
    if length <= 8192:
        ours, theirs = converter.lower(value), as_shipped(ffi, value)
        assert ours.data[: ours.len] == theirs.data[: theirs.len]
        assert converter.lift(ours) == converter.lift(theirs) == value


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_kinds_of_bytes_are_converted_too(ffi: Any, kind: Any) -> None:
    converter = ffi._UniffiFfiConverterBytes
    assert converter.lift(converter.lower(bytes(kind(b"\x00\xffab")))) == b"\x00\xffab"


def test_it_is_much_quicker(ffi: Any) -> None:
    """Tenfold is easily met (`python -m bench links` says how much); twofold is demanded."""
    value = bytes(8192)
    converter = ffi._UniffiFfiConverterBytes

    def best_s(lower: Any) -> float:
        times = []
        for _ in range(5):
            began_s = time.perf_counter()
            buffer = lower(value)
            times.append(time.perf_counter() - began_s)
            converter.lift(buffer)
        return min(times)

    assert best_s(converter.lower) * 2 < best_s(lambda data: as_shipped(ffi, data))


def test_other_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "1.2.1")
    with pytest.raises(LinkFault, match=r"need iroh 1\.2\.0, installed is 1\.2\.1"):
        iroh_patch.load.__wrapped__()


def test_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    iroh_patch.load.cache_clear()
    assert not iroh_patch.is_available()
    monkeypatch.undo()
    assert iroh_patch.is_available()


def test_module_of_another_shape_is_refused(ffi: Any) -> None:
    with pytest.raises(LinkFault, match="not built as expected"):
        iroh_patch.replace(SimpleNamespace())
    converter = SimpleNamespace(lift=lambda _buffer: b"something else")
    odd = SimpleNamespace(
        _UniffiFfiConverterBytes=converter, _UniffiRustBuffer=ffi._UniffiRustBuffer
    )
    with pytest.raises(LinkFault, match="in another way"):
        iroh_patch.replace(odd)
    assert not hasattr(converter, "lower")
