"""Placing a model: what the engine is asked, in a process of its own, and when it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support.children import new_children
from tests.support.made_engines import (
    ACCELERATOR,
    CPU,
    GIB,
    INTEGRATED,
    MadeDevice,
    MadeEngine,
    compile_library,
)

from atoll.domain.errors import EngineFault
from atoll.engine import place as place_module
from atoll.engine.devices import GPU, Device
from atoll.engine.library import LIBRARY_VARIABLE, find_library
from atoll.engine.place import check_engine, may_have_gpu, place, probe

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("own_children")]

MACHINE = (
    MadeDevice("CUDA0", description="Great GPU", free_bytes=20 * GIB, total_bytes=24 * GIB),
    MadeDevice("BLAS", ACCELERATOR),
    MadeDevice("CUDA1", free_bytes=4 * GIB),
    MadeDevice("Vulkan0", INTEGRATED, free_bytes=30 * GIB, total_bytes=32 * GIB),
    MadeDevice("CPU1", CPU),
)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with GPUs."""
    monkeypatch.setenv(LIBRARY_VARIABLE, str(MadeEngine(devices=MACHINE).build(tmp_path)))
    monkeypatch.setattr(place_module, "may_have_gpu", lambda: True)


async def test_the_engine_is_asked_and_the_process_ends(machine: None) -> None:
    assert await probe() == (
        Device("CUDA0", "Great GPU", GPU, 20 * GIB, 24 * GIB),
        Device("CUDA1", "", GPU, 4 * GIB, 8 * GIB),
        Device("Vulkan0", "", "integrated", 30 * GIB, 32 * GIB),
    )
    assert not new_children()


@pytest.mark.parametrize(
    ("wish", "need_gib", "expected"),
    [("auto", 1, "CUDA0"), ("auto", 18, None), ("none", 1, None), ("1", 1, "CUDA1")],
)
async def test_placing(machine: None, wish: str, need_gib: int, expected: str | None) -> None:
    chosen = await place(wish, need_gib * GIB)
    assert (chosen.name if chosen else None) == expected


async def test_what_does_not_fit_is_said(machine: None, caplog: pytest.LogCaptureFixture) -> None:
    assert await place("auto", 100 * GIB) is None
    assert "place.no_gpu_fits" in caplog.text
    with pytest.raises(EngineFault, match="a spare do not fit"):
        await place("1", 100 * GIB)


async def test_no_gpu_files_no_question(
    machine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(place_module, "may_have_gpu", lambda: False)
    monkeypatch.setenv(LIBRARY_VARIABLE, str(tmp_path / "absent.so"))
    assert await place("auto", 1) is None
    assert await place("none", 1) is None


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("null", False),
        ("dri/card0", False),
        ("nvidia-caps", False),
        ("nvidiactl", True),
        ("nvidia3", True),
        ("kfd", True),
        ("dri/renderD128", True),
        ("dxg", True),
    ],
)
def test_device_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, expected: bool
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    monkeypatch.setattr("sys.platform", "linux")
    assert may_have_gpu(tmp_path) is expected
    monkeypatch.setattr("sys.platform", "darwin")
    assert may_have_gpu(tmp_path)


async def test_a_good_engine_passes_the_early_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The packaged one, and a copy of it under another name."""
    await check_engine("auto")
    await check_engine("none")
    copy = tmp_path / "libllama-of-mine.so"
    shutil.copy(find_library(), copy)
    monkeypatch.setenv(LIBRARY_VARIABLE, str(copy))
    await check_engine("auto")
    assert not new_children()


async def test_a_bad_library_fails_the_early_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, str(MadeEngine(version="9").build(tmp_path)))
    for wish in ("auto", "none", "0"):
        with pytest.raises(EngineFault, match="of another build"):
            await check_engine(wish)


async def test_a_gpu_that_is_not_there_fails_the_early_check(machine: None) -> None:
    await check_engine("2")
    with pytest.raises(EngineFault, match="no GPU 3; the engine finds 0: CUDA0"):
        await check_engine("3")


async def test_a_library_that_dies_when_opened_takes_only_the_probe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = MadeEngine(devices=(MadeDevice("G"),)).build(tmp_path)
    source = (tmp_path / "libllama.so.c").read_text()
    dying = source + "\n__attribute__((constructor)) static void die(void) { abort(); }\n"
    compile_library(tmp_path, dying, path, [])
    monkeypatch.setenv(LIBRARY_VARIABLE, str(path))
    with pytest.raises(EngineFault, match=r"probe process was killed by signal 6 \(abort\)"):
        await check_engine("auto")
