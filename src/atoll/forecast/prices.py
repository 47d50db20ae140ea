"""What an hour of a device costs, by how one comes by it. US dollars; `data/prices.toml`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from atoll.forecast.devices import Device

Paid = Literal["on-demand", "spot", "three-years", "owned"]
"""Rented by the hour, the same but taken away when others pay more, rented for three years,
or owned by one who runs large halls of them (all costs, spread over its life).
"""


class Price(msgspec.Struct, frozen=True):
    """What one source says of a device; 0: nothing. `market` is whose prices they are."""

    device: str
    kind: Literal["owned", "rental", "market"]
    source: str
    usd_h_on_demand: float = 0.0
    usd_h_spot: float = 0.0
    usd_h_rental3y: float = 0.0
    usd_h_owned_hyperscaler: float = 0.0
    usd_h_owned_neocloud: float = 0.0
    usd_h_low: float = 0.0
    usd_h_high: float = 0.0
    all_in_kw: float = 0.0
    market: str = ""
    note: str = ""


class _File(msgspec.Struct, frozen=True):
    prices: tuple[Price, ...]


def hourly_usd(device: Device, paid: Paid) -> float:
    """Dollars an hour, 0: not known. Rented by the hour, the device's own figure stands where
    it has one, and else the middle of what markets ask.
    """
    known = [price for price in shipped_prices() if price.device == device.name]
    if paid == "on-demand":
        if device.hourly:
            return device.hourly
        rented = [price.usd_h_on_demand for price in known if price.usd_h_on_demand]
        asked = [(price.usd_h_low + price.usd_h_high) / 2 for price in known if price.usd_h_low]
        return _middle(rented or asked)
    of = {
        "spot": [price.usd_h_spot for price in known],
        "three-years": [price.usd_h_rental3y for price in known],
        "owned": [price.usd_h_owned_hyperscaler for price in known],
    }
    return _middle([usd for usd in of[paid] if usd])


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


@cache
def shipped_prices() -> tuple[Price, ...]:
    """The prices that this package carries."""
    text = resources.files("atoll.forecast").joinpath("data", "prices.toml").read_text("utf-8")
    return msgspec.toml.decode(text, type=_File).prices
