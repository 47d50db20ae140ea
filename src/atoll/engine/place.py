"""Placing a model: ask what GPUs there are, and choose before its process starts.

The choice comes first since it decides what the process may do: a GPU's driver
opens device files and maps more than any bound on the address space allows.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import msgspec

from atoll.domain.errors import EngineFault
from atoll.engine.channel import Broken
from atoll.engine.child import EngineChild
from atoll.engine.devices import AUTO, NONE, Device, choose
from atoll.engine.library import find_library, own_library
from atoll.engine.probe_process import Probe, Probed

log = logging.getLogger(__name__)

MODULE = "atoll.engine.probe_process"
PROBE_S = 60.0
"""A driver that wakes its GPUs takes seconds."""

GPU_FILES = ("nvidiactl", "nvidia[0-9]*", "kfd", "dri/renderD*", "dxg")
"""Under /dev on Linux: NVIDIA, AMD's compute driver, any driver for Vulkan, Windows' own."""


async def check_engine(wish: str) -> None:
    """Refuse early what would fail when a model is loaded.

    Args:
        wish: As for `devices.choose`.

    Raises:
        EngineFault: There is no engine, the library named is none or of another
            build, or there is no GPU of that number.
    """
    find_library()
    if wish not in (AUTO, NONE):
        choose(await probe(), 0, wish)
    elif own_library() is not None:
        await probe()


async def place(wish: str, need_bytes: int) -> Device | None:
    """The GPU for a model, or None for the processor.

    Args:
        wish: As for `devices.choose`.
        need_bytes: Its weights and KV caches.

    Raises:
        EngineFault: The engine cannot be asked, or the GPU asked for cannot be had.
    """
    if wish == NONE or (wish == AUTO and not may_have_gpu()):
        return None
    devices = await probe()
    chosen = choose(devices, need_bytes, wish)
    if chosen is None and devices:
        log.warning("place.no_gpu_fits need_bytes=%d devices=%r", need_bytes, devices)
    return chosen


def may_have_gpu(dev: Path = Path("/dev")) -> bool:
    """Whether it is worth asking the engine: a GPU's device file, or a system without such."""
    if not sys.platform.startswith("linux"):
        return True
    return any(True for pattern in GPU_FILES for _ in dev.glob(pattern))


async def probe() -> tuple[Device, ...]:
    """The GPUs that the engine's library finds on this machine.

    Raises:
        EngineFault: The library cannot be opened or is of another build, or its
            process died.
    """
    failures: list[EngineFault] = []
    decoder = msgspec.msgpack.Decoder(Probed | Broken)
    child = EngineChild[Probed]("probe process", decoder, _unasked, failures.append)
    try:
        async with asyncio.timeout(PROBE_S):
            answer = await child.start(MODULE, Probe(), memory_bytes=None, env={}, devices=True)
    except TimeoutError:
        raise EngineFault(
            f"the engine did not tell its devices within {PROBE_S:g} s",
            hint="does the GPU's driver work? --gpu none does without",
        ) from None
    finally:
        await child.close()
    return answer.devices


def _unasked(_reply: Probed, _payload: bytes) -> None:
    raise EngineFault("the probe process answered out of turn")
