"""Figures in descriptions of machines: numbers with units, and where they are from.

A quantity is a string with its unit in TOML (`"900 MHz"`) and a plain SI number here. Each
table of a description names the source of its figures; what is not published is left out,
and whoever needs it says so by `published`.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import msgspec

from atoll.domain.errors import BadRequest
from atoll.forecast.quantities import (
    COMPUTE,
    FREQUENCY,
    RATE,
    SIZE,
    TIME,
    Dimension,
    parse_quantity,
)

Item = TypeVar("Item")


class _Quantity(float):
    dimension: ClassVar[Dimension]


class Size(_Quantity):
    """Bytes."""

    dimension = SIZE


class Rate(_Quantity):
    """Bytes a second."""

    dimension = RATE


class Compute(_Quantity):
    """Operations a second."""

    dimension = COMPUTE


class Seconds(_Quantity):
    """Seconds."""

    dimension = TIME


class Hertz(_Quantity):
    """Cycles a second."""

    dimension = FREQUENCY


class Sourced(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Figures of one source. `note`: what the source leaves open, or another one says."""

    source: str
    note: str = ""

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise ValueError("figures without a source")


def decode(text: str, kind: type[Item], *, source: str) -> Item:
    """A description in TOML.

    Raises:
        BadRequest: It is no TOML of this form, or a figure is missing, has no unit or is absurd.
    """
    try:
        return msgspec.toml.decode(text, type=kind, dec_hook=_quantity)
    except msgspec.MsgspecError as error:
        raise BadRequest(
            f"{source} cannot be read: {error}",
            hint="src/atoll/lpu/data shows the form of machines and systems",
        ) from error


def _quantity(kind: type[Any], found: Any) -> Any:
    if not issubclass(kind, _Quantity):
        raise NotImplementedError(kind)
    if not isinstance(found, str):
        raise ValueError(f"{found!r} has no unit")
    try:
        return kind(parse_quantity(found, kind.dimension, where="a figure"))
    except BadRequest as error:
        raise ValueError(str(error)) from error


def published(figure: Item | None, what: str) -> Item:
    """The figure.

    Raises:
        BadRequest: It is not published.
    """
    if figure is None:
        raise BadRequest(f"{what} is not published", hint="ask of a machine that publishes it")
    return figure
