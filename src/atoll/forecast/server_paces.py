"""Paces of servers of accelerators, and of systems of chips with a fixed schedule."""

from __future__ import annotations

from atoll.forecast import lpu, saturated, serving
from atoll.forecast.constants import Constants
from atoll.forecast.devices import Device
from atoll.forecast.fleet_file import Software
from atoll.forecast.outlook import USABLE
from atoll.forecast.paces import Pace
from atoll.forecast.power import idle_watts, server_watts
from atoll.forecast.prices import Paid, hourly_usd
from atoll.forecast.saturated import SaturatedRun
from atoll.forecast.serving import Server
from atoll.forecast.shapes import ModelShape

TUNED = "MLPerf"
CHUNK = {"served": 2048, "tuned": 8192}
"""Prompts' positions of a step: vLLM's usual `max_num_batched_tokens` where it serves, and where
it answers whole files of requests (its documentation, "Optimization and tuning").
"""
STREAMS_SERVED = 320
"""At once: as many as `serving` has been held against."""
KV_BITS = {"served": 16.0, "tuned": 8.0}


def server_pace(
    shape: ModelShape,
    device: Device,
    n: int,
    bits: float,
    constants: Constants,
    *,
    software: Software = "served",
    lengths: tuple[float, float] = (1000.0, 200.0),
    paid: Paid = "on-demand",
) -> Pace:
    """The pace of `n` devices that split every matrix.

    Args:
        shape: The model.
        device: One of them.
        n: How many.
        bits: Of a weight.
        constants: What was fitted.
        software: What runs on it.
        lengths: Of prompts and answers on average, tokens: long prompts are looked back at more.
        paid: How it is come by.
    """
    kv_bits = KV_BITS[software]
    free = n * device.memory * USABLE - shape.total_params * bits / 8
    room = free / (shape.kv_values * kv_bits / 8)
    watts = (0.0, 0.0)
    if device.power:
        watts = (server_watts(device, n, constants), idle_watts(device, n, constants))
    if software == "tuned":
        run = SaturatedRun(shape, device, n, bits, kv_bits, *lengths, TUNED)

        def fixed_s(streams: int) -> float:
            return saturated.fixed_s(run, streams, constants)

        streams_max = int(saturated.software_streams(run, constants))
        position_s = saturated.position_s(run, constants)
        flops = shape.token_flops(lengths[0] / 2)
        operation_s = saturated.prompt_row_s(run, constants) / flops
    else:
        server = Server(shape, device, n, bits, kv_bits)

        def fixed_s(streams: int) -> float:
            return serving.fixed_s(server, streams, constants)

        streams_max = STREAMS_SERVED
        position_s = serving.position_s(server, constants)
        operation_s = serving.operation_s(server, constants)
    return Pace(
        shape=shape,
        fixed_s=fixed_s,
        position_s=position_s,
        operation_s=operation_s,
        chunk=(CHUNK[software], CHUNK[software]),
        room=room,
        streams_max=streams_max,
        first_s=constants.of(serving.FIRST_S),
        watts=watts,
        hourly=n * hourly_usd(device, paid),
    )


def lpu_pace(
    shape: ModelShape, device: Device, n: int, constants: Constants, paid: Paid = "on-demand"
) -> Pace:
    """The pace of a system of chips with a fixed schedule: a token takes the same time whatever
    its caches hold. How many streams it serves at once is not published: one, unless a fleet
    says more, and prompts take nothing besides what the first token does.
    """
    seconds = lpu.token_s(shape, constants)
    return Pace(
        shape=shape,
        fixed_s=lambda _: seconds,
        position_s=0.0,
        operation_s=0.0,
        chunk=(1 << 20, 1 << 20),
        room=float("inf"),
        streams_max=1,
        first_s=max(0.0, lpu.first_token_s(constants) - seconds),
        watts=(n * device.power, n * device.power),
        hourly=n * hourly_usd(device, paid),
    )
