"""Machines by name, with sourced figures: what a forecast may be asked about.

The package carries `data/devices.toml`; users add files of the same form. Quantities are
strings with units there (`quantities.py`), and plain SI numbers here.

    [[devices]]
    name = "NVIDIA GeForce RTX 3090"
    aliases = ["RTX 3090"]
    kind = "gpu-consumer"
    memory = "24 GiB"
    bandwidth = "936 GB/s"
    fp16 = "71.2 TFLOPS"
    power = "350 W"
    source = "where the figures are from"
    # of one that `atoll probe` has measured; bandwidth and fp16 are then what software gets:
    timing = { layer = "0.11 ms", hop = "0.9 ms", bits = 4.99, unpacking = 0.9 }
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Annotated, Literal

import msgspec

from atoll.domain.errors import BadRequest
from atoll.forecast.names import ByName
from atoll.forecast.quantities import (
    COMPUTE,
    HOURLY,
    POWER,
    PRICE,
    RATE,
    SIZE,
    TIME,
    Dimension,
    parse_quantity,
)

Kind = Literal[
    "lpu", "gpu", "gpu-consumer", "tpu", "soc", "cpu", "memory-pool", "fabric", "fabric-nic"
]

BITS_MAX = 64.0
CORES_MAX = 65536


class Timing(msgspec.Struct, frozen=True):
    """Of a device that was measured: seconds that a layer takes however small it is, and a hop of
    a ring besides layers and ways. Its bandwidth and operations a second are then what software
    got of them, with weights of `bits`; of what a weight takes, `unpacking` is the share that
    stays the same with more bits or fewer.
    """

    layer_s: float
    hop_s: float
    bits: float
    unpacking: float = 0.0


class Device(msgspec.Struct, frozen=True):
    """A machine or chip. Bytes, bytes a second, operations a second, watts, seconds, US dollars;
    0: not published. `flops` are dense peaks by precision (`fp16`, `fp8`, `fp4`, `int8`), `power`
    what the device is rated for, `wall` the measured peak of a whole machine, `chips` how many
    a device of several holds, `cores` how many of a processor compute, `timing` what was
    measured of one that is here.
    """

    name: str
    kind: Kind
    memory: float
    bandwidth: float
    flops: Mapping[str, float]
    power: float = 0.0
    link: float = 0.0
    link_latency: float = 0.0
    price: float = 0.0
    hourly: float = 0.0
    bandwidth_measured: float = 0.0
    wall: float = 0.0
    chips: int = 1
    cores: int = 0
    vendor: str = ""
    memory_kind: str = ""
    aliases: tuple[str, ...] = ()
    source: str = ""
    note: str = ""
    timing: Timing | None = None

    @property
    def is_desk(self) -> bool:
        """Whether several of it are machines of a ring, and no server of accelerators: as a stage
        was timed on it, or as it is sold.
        """
        return self.timing is not None or self.kind in ("soc", "cpu")

    def best_flops(self, bits: float) -> float:
        """Operations a second with weights of so many bits: of the narrowest numbers that the
        chip computes with and that hold them; 0: none are published.
        """
        for kind, width in (("fp4", 5.0), ("fp8", 8.5), ("int8", 8.5)):
            if bits <= width and kind in self.flops:
                return self.flops[kind]
        return self.flops.get("fp16", 0.0)


class _Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bits: float
    unpacking: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    layer: str = ""
    hop: str = ""


class _Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    kind: Kind
    source: str
    aliases: tuple[str, ...] = ()
    vendor: str = ""
    memory: str = ""
    memory_kind: str = ""
    bandwidth: str = ""
    fp16: str = ""
    fp8: str = ""
    fp4: str = ""
    int8: str = ""
    power: str = ""
    link: str = ""
    link_latency: str = ""
    price: str = ""
    hourly: str = ""
    bandwidth_measured: str = ""
    wall: str = ""
    chips: int = 1
    cores: Annotated[int, msgspec.Meta(ge=0, le=CORES_MAX)] = 0
    note: str = ""
    timing: _Timing | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    devices: tuple[_Device, ...] = ()


def parse_devices(text: str, *, source: str) -> ByName[Device]:
    """The devices that a TOML file describes.

    Raises:
        BadRequest: It is no TOML of this form, or a quantity is missing, without its unit
            or absurd.
    """
    try:
        found = msgspec.toml.decode(text, type=_File)
    except msgspec.MsgspecError as error:
        raise BadRequest(
            f"{source} cannot be read: {error}", hint="docs/howto/compare-fleets.md shows its form"
        ) from error
    return ByName("device", map(_device, found.devices))


def _device(entry: _Device) -> Device:
    def number(text: str, dimension: Dimension) -> float:
        return parse_quantity(text, dimension, where=entry.name) if text else 0.0

    timing = None
    if entry.timing is not None:
        if not 0 < entry.timing.bits <= BITS_MAX:
            raise BadRequest(f"{entry.name}: a weight of {entry.timing.bits:g} bits")
        seconds = (number(entry.timing.layer, TIME), number(entry.timing.hop, TIME))
        timing = Timing(*seconds, entry.timing.bits, entry.timing.unpacking)
    words = {kind: getattr(entry, kind) for kind in ("fp16", "fp8", "fp4", "int8")}
    return Device(
        name=entry.name,
        kind=entry.kind,
        memory=number(entry.memory, SIZE),
        bandwidth=number(entry.bandwidth, RATE),
        flops={kind: number(word, COMPUTE) for kind, word in words.items() if word},
        power=number(entry.power, POWER),
        link=number(entry.link, RATE),
        link_latency=number(entry.link_latency, TIME),
        price=number(entry.price, PRICE),
        hourly=number(entry.hourly, HOURLY),
        bandwidth_measured=number(entry.bandwidth_measured, RATE),
        wall=number(entry.wall, POWER),
        chips=entry.chips,
        cores=entry.cores,
        vendor=entry.vendor,
        memory_kind=entry.memory_kind,
        aliases=entry.aliases,
        source=entry.source,
        note=entry.note,
        timing=timing,
    )


@cache
def shipped_devices() -> ByName[Device]:
    """The devices that this package carries."""
    folder = resources.files("atoll.forecast").joinpath("data")
    text = folder.joinpath("devices.toml").read_text("utf-8")
    return parse_devices(text, source="devices.toml")
