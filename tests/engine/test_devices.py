"""Which GPU a model takes: a pure function over made-up machines."""

from __future__ import annotations

import re

import pytest
from tests.support.made_engines import GIB

from atoll.domain.errors import EngineFault
from atoll.engine.devices import (
    GPU,
    INTEGRATED,
    SPARE_BYTES_MIN,
    Device,
    check_wish,
    choose,
    fits,
)

BIG = Device("CUDA0", "Great GPU", GPU, 20 * GIB, 24 * GIB)
SMALL = Device("CUDA1", "Small GPU", GPU, 4 * GIB, 8 * GIB)
SHARED = Device("Vulkan0", "Part of the processor", INTEGRATED, 30 * GIB, 32 * GIB)
UNKNOWN = Device("ODD0", "", GPU, 0, 0)


@pytest.mark.parametrize(
    ("devices", "need_gib", "expected"),
    [
        ((), 1, None),
        ((BIG,), 1, BIG),
        ((BIG,), 16, BIG),
        ((BIG,), 17, None),
        ((BIG, SMALL), 1, BIG),
        ((SMALL, BIG), 1, BIG),
        ((SMALL, BIG), 10, BIG),
        ((SHARED,), 1, SHARED),
        ((SHARED,), 25, None),
        ((SHARED, SMALL), 1, SMALL),
        # Slower than a GPU of its own, and taken from the processor's memory.
        ((SHARED, SMALL), 10, None),
        ((UNKNOWN,), 0, None),
        ((UNKNOWN, SMALL), 1, SMALL),
    ],
)
def test_auto_takes_the_roomiest_that_holds_all_and_a_spare(
    devices: tuple[Device, ...], need_gib: int, expected: Device | None
) -> None:
    assert choose(devices, need_gib * GIB, "auto") == expected


def test_none_is_the_processor_whatever_there_is() -> None:
    assert choose((BIG, SMALL, SHARED), 1, "none") is None


@pytest.mark.parametrize(
    ("wish", "expected"), [("0", BIG), ("1", SMALL), ("2", SHARED), ("3", UNKNOWN)]
)
def test_a_number_is_that_gpu(wish: str, expected: Device) -> None:
    assert choose((BIG, SMALL, SHARED, UNKNOWN), GIB, wish) == expected


def test_a_number_that_is_not_there() -> None:
    with pytest.raises(EngineFault, match="no GPU 2; the engine finds 0: CUDA0") as caught:
        choose((BIG, SMALL), 1, "2")
    assert "1: CUDA1 (Small GPU)" in caught.value.problem
    with pytest.raises(EngineFault, match="no GPU 0; the engine finds none") as caught:
        choose((), 1, "0")
    assert "--gpu none" in caught.value.hint


def test_a_numbered_gpu_that_is_too_small_is_an_error_not_another() -> None:
    words = re.escape("CUDA1 (Small GPU) has 4.0 GiB free; 10.0 GiB and a spare do not fit")
    with pytest.raises(EngineFault, match=words):
        choose((BIG, SMALL), 10 * GIB, "1")


def test_the_spare_is_never_less_than_what_a_driver_takes() -> None:
    tight = Device("G", "", GPU, GIB, GIB)
    assert fits(tight, GIB - SPARE_BYTES_MIN)
    assert not fits(tight, GIB - SPARE_BYTES_MIN + 1)


@pytest.mark.parametrize("wish", ["", "-1", "1.5", "all", "AUTO", "\u0661", "0 "])
def test_other_wishes_are_refused(wish: str) -> None:
    with pytest.raises(ValueError, match="neither auto, none nor a GPU's number"):
        check_wish(wish)
    with pytest.raises(ValueError, match="neither"):
        choose((BIG,), 1, wish)
