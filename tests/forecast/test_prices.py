"""What an hour costs, by how one comes by the device."""

from __future__ import annotations

import msgspec
import pytest

from atoll.forecast.devices import shipped_devices
from atoll.forecast.prices import Paid, hourly_usd, shipped_prices

DEVICES = shipped_devices()


@pytest.mark.parametrize(
    ("paid", "usd"), [("on-demand", 4.76), ("spot", 2.69), ("three-years", 1.30), ("owned", 1.30)]
)
def test_ways_to_pay(paid: Paid, usd: float) -> None:
    assert hourly_usd(DEVICES.find("H100 SXM"), paid) == usd


def test_what_is_not_known() -> None:
    card = DEVICES.find("RTX 3060")
    assert all(hourly_usd(card, paid) == 0 for paid in ("on-demand", "spot", "owned"))
    # What a user says of a device counts.
    mine = msgspec.structs.replace(card, hourly=0.25)
    assert hourly_usd(mine, "on-demand") == 0.25


def test_prices_are_of_devices_that_there_are() -> None:
    for price in shipped_prices():
        assert DEVICES.get(price.device) is not None, price.device
        assert price.source
