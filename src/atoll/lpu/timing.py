"""When things happen on a chip: positions of units, delays, phases of results.

What no source gives is in `data/assumed.toml`, each with the reason for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Annotated

import msgspec

from atoll.lpu.figures import decode, published
from atoll.lpu.machine import Chip
from atoll.lpu.parts import Place
from atoll.lpu.program import Number, Vector

Cycles = Annotated[int, msgspec.Meta(ge=0, le=1 << 12)]

FORMATS: dict[Number, str] = {"int8": "int8", "f16": "fp16"}
"""Names of formats of weights in descriptions of machines."""


class Assumed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Figures that somebody chose."""

    alu_cycles: Cycles
    alu_reason: str
    memory_cycles: Cycles
    memory_reason: str
    matrix_cycles: Cycles
    matrix_reason: str
    install_cycles: Cycles
    install_reason: str
    switch_cycles: Cycles
    switch_reason: str
    accumulator_rows: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
    accumulator_reason: str
    link_streams: Annotated[int, msgspec.Meta(ge=1, le=32)]
    link_reason: str


@cache
def shipped_assumed() -> Assumed:
    """The figures that this package chose."""
    text = resources.files("atoll.lpu").joinpath("data", "assumed.toml").read_text("utf-8")
    return decode(text, Assumed, source="assumed.toml")


@dataclass(frozen=True)
class Timing:
    """Positions and delays of a chip, in registers and cycles, all from the middle outward."""

    chip: Chip
    assumed: Assumed

    @cached_property
    def lanes(self) -> int:
        """Lanes of a vector."""
        return self.chip.lane_count

    @cached_property
    def tiles(self) -> int:
        """Tiles of a slice: cycles by which the last lanes are behind the first."""
        return published(self.chip.lanes, f"{self.chip.name}: its lanes").superlanes

    @cached_property
    def streams(self) -> int:
        """Streams of a side that flow one way."""
        return published(self.chip.streams, f"{self.chip.name}: its streams").each_way

    @cached_property
    def slices(self) -> int:
        """Memory slices of a side."""
        return published(self.chip.memory, f"{self.chip.name}: its memory").slices

    @cached_property
    def words(self) -> int:
        """Words of a slice."""
        return published(self.chip.memory, f"{self.chip.name}: its memory").words

    @cached_property
    def slice_positions(self) -> tuple[int, ...]:
        """Registers between the middle and each memory slice of a side."""
        return tuple(self.chip.position(Place("mem", "east", n)) for n in range(self.slices))

    @cached_property
    def switch_position(self) -> int:
        """Registers between the middle and the switch unit of a side."""
        return self.chip.position(Place("sxm", "east"))

    @cached_property
    def edge(self) -> int:
        """Registers between the middle and the matrix units of a side."""
        return self.chip.position(Place("mxm", "east"))

    @cached_property
    def planes(self) -> int:
        """Matrix planes of a side."""
        return published(self.chip.matrix, f"{self.chip.name}: its matrix units").planes // 2

    @cached_property
    def alus(self) -> int:
        """Vector ALUs of a lane."""
        vector = published(self.chip.vector, f"{self.chip.name}: its vector unit")
        return vector.rows * vector.columns

    @cached_property
    def link_cycles(self) -> int:
        """Cycles that a vector occupies a link."""
        return self.chip.vector_link_cycles()

    @property
    def columns(self) -> int:
        """Columns of a plane, each of as many weights as there are lanes."""
        return published(self.chip.matrix, f"{self.chip.name}: its matrix units").columns

    def row_cycles(self, number: Number) -> int:
        """Cycles that a vector of all lanes occupies a plane, or a pair of them."""
        product = self.chip.product(FORMATS[number])
        return -(-self.lanes // product.depth)

    def multiplied(self, at: int) -> int:
        """Phase of the result of a vector that came with phase `at` to a matrix plane."""
        return at + 2 * self.edge + self.tiles + self.assumed.matrix_cycles

    def switched(self, at: int) -> int:
        """Phase of a vector that came with phase `at` to the switch unit and turned back."""
        return at + 2 * self.switch_position + self.tiles + self.assumed.switch_cycles

    def received(self, at: int) -> int:
        """Phase on the chip at the other end of a link of a vector sent with phase `at`.

        A hop is from memory to memory: to the edge, over the link and from the other's edge to
        the slice that is farthest from it.
        """
        return at + self.chip.hop_cycles() - self.assumed.memory_cycles

    def left(self, vector: Vector, value: int) -> int:
        """Phase in which a value of a vector instruction is there for the first vector."""
        return vector.at + vector.depths()[value] * self.assumed.alu_cycles
