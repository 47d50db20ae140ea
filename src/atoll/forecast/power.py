"""What a machine draws from the wall.

    system with accelerators under full load: n x board x u + n x around
    a desk machine while it decodes:          host + board x u

`board` is an accelerator's named limit, `u` the share of it that it draws, `around` what
processors, memory, fans and power supplies take for each. Decoding is bound by memory, so a
card draws less than its limit.
"""

from __future__ import annotations

from atoll.forecast.constants import Constant, Constants
from atoll.forecast.devices import Device

SERVER_USE = Constant("power.server_use", 0.85, (0.1, 0.1), "below the limit where it is kept to")
SERVER_AROUND = Constant("power.server_around", 350.0, (0.4,), "a server of eight less its boards")
CAPPED = Constant("power.capped", 0.7, (0.2,), "boards told to run where they are most efficient")
IDLE_USE = Constant(
    "power.idle_use", 35 / 600, (0.5,), "RTX PRO 6000: 35 W idle of 600 W, LLMServingSim's figures"
)
DESK_HOST = Constant("power.desk_host", 60.0, (0.5, 0.6), "an idle desktop with its supply")
DESK_USE = Constant("power.desk_use", 0.85, (0.2, 0.2, 0.15), "of cards that decode")


def server_watts(device: Device, n: int, constants: Constants, *, capped: bool = False) -> float:
    """A server of `n` accelerators under full load, W."""
    board = device.power * constants.of(SERVER_USE, device.name)
    if capped:
        board *= constants.of(CAPPED)
    return n * (board + constants.of(SERVER_AROUND))


def desk_watts(device: Device, host: str, constants: Constants) -> float:
    """A machine with one device that decodes, W; `host` is what kind of machine drives it."""
    use = device.power * constants.of(DESK_USE, device.kind, device.name)
    if device.kind in ("soc", "cpu"):
        return use
    return constants.of(DESK_HOST, host) + use


def idle_watts(device: Device, n: int, constants: Constants) -> float:
    """A server of `n` accelerators that waits, W: boards idle, and all around them runs on."""
    return n * (device.power * constants.of(IDLE_USE) + constants.of(SERVER_AROUND))


def idle_desk_watts(device: Device, constants: Constants) -> float:
    """A desk machine that waits, W."""
    board = device.power * constants.of(IDLE_USE)
    return board if device.kind in ("soc", "cpu") else constants.of(DESK_HOST, "") + board
