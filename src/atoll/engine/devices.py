"""What a model can be computed on: the machine's GPUs, and which one a stage takes.

The choice is a pure function over what the engine's library tells of the
devices. A shard goes whole onto one device: split over several, its last
layer could be caught only after crossing between them, and its rows would
wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from atoll.domain.errors import EngineFault

PROCESSOR = "processor"
"""What the device is called where a model is computed without a GPU."""

AUTO, NONE = "auto", "none"

SPARE_PART = 0.2
SPARE_BYTES_MIN = 512 * 1024**2
"""Kept free beside weights and caches: compute buffers, and what the driver takes."""

GPU, INTEGRATED = "gpu", "integrated"

_GIB = 1024**3


class Device(msgspec.Struct, frozen=True):
    """One GPU as the engine's library tells of it; memory is 0 where it cannot tell.

    `kind` is `gpu` (memory of its own) or `integrated` (the machine's memory).
    """

    name: str
    description: str
    kind: str
    free_bytes: int
    total_bytes: int

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name} ({self.description})" if self.description else self.name


def check_wish(wish: str) -> None:
    """Refuse what `--gpu` cannot be.

    Raises:
        ValueError: It is neither `auto`, `none` nor a number.
    """
    if wish not in (AUTO, NONE) and not (wish.isascii() and wish.isdigit()):
        raise ValueError(f"{wish!r} is neither auto, none nor a GPU's number")


def choose(devices: Sequence[Device], need_bytes: int, wish: str) -> Device | None:
    """Where a model goes.

    Args:
        devices: The machine's GPUs, in the library's order.
        need_bytes: Weights and KV caches.
        wish: `auto`: the GPU with the most free memory if all fits, else the
            processor; an integrated one only where there is no other. `none`:
            the processor. A number: that GPU or an error.

    Returns:
        The GPU, or None for the processor.

    Raises:
        EngineFault: The GPU asked for is not there, or too small.
    """
    check_wish(wish)
    if wish == NONE:
        return None
    if wish != AUTO:
        return _numbered(devices, need_bytes, int(wish))
    own_memory = [device for device in devices if device.kind == GPU]
    fitting = [device for device in own_memory or devices if fits(device, need_bytes)]
    return max(fitting, key=lambda device: device.free_bytes, default=None)


def fits(device: Device, need_bytes: int) -> bool:
    """Whether a device holds `need_bytes` and the spare."""
    spare_bytes = max(SPARE_PART * device.free_bytes, SPARE_BYTES_MIN)
    return need_bytes + spare_bytes <= device.free_bytes


def _numbered(devices: Sequence[Device], need_bytes: int, number: int) -> Device:
    if number >= len(devices):
        there = ", ".join(f"{i}: {device.title}" for i, device in enumerate(devices))
        raise EngineFault(
            f"there is no GPU {number}; the engine finds {there or 'none'}",
            hint="choose another with --gpu, or --gpu none for the processor",
        )
    device = devices[number]
    # One that cannot tell its memory is taken at its owner's word.
    if device.total_bytes and not fits(device, need_bytes):
        raise EngineFault(
            f"{device.title} has {device.free_bytes / _GIB:.1f} GiB free; "
            f"{need_bytes / _GIB:.1f} GiB and a spare do not fit",
            hint="use --gpu auto, more nodes, fewer streams or a shorter context",
        )
    return device
