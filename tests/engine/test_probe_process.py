"""The probe process by itself: one question, one answer, and words where it cannot."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.support.made_engines import MadeDevice, MadeEngine

from atoll.domain.errors import EngineFault
from atoll.engine.channel import Broken
from atoll.engine.child import EngineChild
from atoll.engine.library import ENGINE_BUILD, LIBRARY_VARIABLE
from atoll.engine.probe_process import Probe, Probed

pytestmark = pytest.mark.engine


async def ask(library: Path | None) -> Probed:
    env = {LIBRARY_VARIABLE: "" if library is None else str(library)}
    decoder = msgspec.msgpack.Decoder(Probed | Broken)
    child = EngineChild[Probed]("probe process", decoder, lambda _m, _p: None, lambda _e: None)
    try:
        return await child.start(
            "atoll.engine.probe_process", Probe(), memory_bytes=None, env=env, devices=True
        )
    finally:
        await child.close()


async def test_the_packaged_engine_says_its_build() -> None:
    assert (await ask(None)).build == ENGINE_BUILD


async def test_devices_come_in_the_librarys_order(tmp_path: Path) -> None:
    devices = (MadeDevice("Z0", description="last name first"), MadeDevice("A1"))
    told = await ask(MadeEngine(devices=devices).build(tmp_path))
    assert [device.title for device in told.devices] == ["Z0 (last name first)", "A1"]


async def test_what_is_wrong_with_a_library_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineFault, match="of another build") as caught:
        await ask(MadeEngine(version="9").build(tmp_path))
    assert LIBRARY_VARIABLE in caught.value.hint


async def test_a_question_it_does_not_know(tmp_path: Path) -> None:
    class Other(msgspec.Struct, tag="other"):
        pass

    decoder = msgspec.msgpack.Decoder(Probed | Broken)
    child = EngineChild[Probed]("probe process", decoder, lambda _m, _p: None, lambda _e: None)
    try:
        with pytest.raises(EngineFault):
            await child.start(
                "atoll.engine.probe_process", Other(), memory_bytes=None, env={}, devices=True
            )
    finally:
        await child.close()
