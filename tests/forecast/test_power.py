"""What machines draw: boards in part, and what is around them."""

from __future__ import annotations

import pytest

from atoll.forecast.constants import Constants, shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.power import (
    CAPPED,
    DESK_HOST,
    DESK_USE,
    IDLE_USE,
    SERVER_AROUND,
    SERVER_USE,
    desk_watts,
    idle_desk_watts,
    idle_watts,
    server_watts,
)

BARE = Constants()
H200 = shipped_devices().find("H200 SXM")


def test_servers() -> None:
    board = 700 * SERVER_USE.value
    assert server_watts(H200, 8, BARE) == pytest.approx(8 * (board + SERVER_AROUND.value))
    capped = server_watts(H200, 8, BARE, capped=True)
    assert capped == pytest.approx(8 * (board * CAPPED.value + SERVER_AROUND.value))


def test_desks() -> None:
    card = shipped_devices().find("RTX 4090")
    watts = desk_watts(card, "a desk", BARE)
    assert watts == pytest.approx(DESK_HOST.value + 450 * DESK_USE.value)
    # A machine in one piece has nothing around it.
    mac = shipped_devices().find("Apple M2 Ultra (76c)")
    assert desk_watts(mac, "a desk", BARE) == pytest.approx(150 * DESK_USE.value)


def test_what_waits_draws_less() -> None:
    waiting = 700 * IDLE_USE.value + SERVER_AROUND.value
    assert idle_watts(H200, 8, BARE) == pytest.approx(8 * waiting)
    card = shipped_devices().find("RTX 4090")
    assert idle_desk_watts(card, BARE) == pytest.approx(DESK_HOST.value + 450 * IDLE_USE.value)
    mac = shipped_devices().find("Apple M2 Ultra (76c)")
    assert idle_desk_watts(mac, BARE) == pytest.approx(150 * IDLE_USE.value)


def test_with_what_was_fitted_it_is_near_what_was_measured() -> None:
    """MLPerf v5.1, Lenovo, eight B200, Llama 2 70B: 10,401 W."""
    b200 = shipped_devices().find("B200 SXM")
    assert server_watts(b200, 8, shipped_fit().constants) == pytest.approx(10_401, rel=0.2)
