"""What a token takes on LPUs when nothing but the schedule counts: times of compiled models.

A schedule is compiled in seconds, and by a package that stands above this one (`atoll.lpu`);
so times of the catalogue's models lie in `data/lpu_compiled.toml`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from atoll.forecast.devices import Device
from atoll.forecast.shapes import ModelShape


class CompiledTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A decoder's shape and what its schedule came to: `chips` that it needs, `width` of them
    for a layer, weights stored as `weights`, caches for `context` positions.
    """

    model: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    weights: str
    context: int
    chips: int
    width: int
    layer_cycles: int
    hand_over_cycles: int
    token_cycles: int
    token_s: float


class CompiledTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times of models on chips that the catalogue knows as one of `devices`."""

    devices: tuple[str, ...]
    times: tuple[CompiledTime, ...]


@cache
def shipped_times() -> CompiledTimes:
    """The times that this package carries, from `python -m bench lpu-compiled`."""
    file = resources.files("atoll.forecast").joinpath("data", "lpu_compiled.toml")
    return msgspec.toml.decode(file.read_text("utf-8"), type=CompiledTimes)


def compiled_time(shape: ModelShape, device: Device) -> CompiledTime | None:
    """The time of a model of that shape, whatever its name; None if none was compiled."""
    known = shipped_times()
    if device.name not in known.devices or not compilable(shape):
        return None
    return next((time for time in known.times if _figures(time) == _figures(shape)), None)


def schedule_note(shape: ModelShape, device: Device) -> tuple[str, ...]:
    """What is to be said beside a forecast for such chips: of the schedule, if one is known.

    Forecasts are of services as their users see them, and are made from what was published of
    these; a schedule knows nothing of a service.
    """
    found = compiled_time(shape, device)
    if found is None:
        return ()
    return (
        f"a schedule compiled for it takes {1e3 * found.token_s:.3g} ms a token, on {found.chips}"
        f" chips, weights of {found.weights}, without the service around it",
    )


def compilable(shape: ModelShape) -> bool:
    """Whether models of the kind are compiled: dense, with gated blocks and whole attention."""
    return shape.gated and not (shape.experts or shape.latent or shape.window)


def _figures(of: ModelShape | CompiledTime) -> tuple[int, ...]:
    return (of.layers, of.hidden, of.heads, of.kv_heads, of.head_dim, of.ffn, of.vocab)
