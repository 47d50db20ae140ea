"""What each of several fleets would do with a model: speed, how many users, power, cost.

Chips with a fixed schedule, servers of accelerators and rings of machines have cost models of
their own (`lpu`, `servers`, `rings`); here they answer the same questions. With each goes how
far forecasts of its kind were off where it could be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.forecast import lpu
from atoll.forecast.constants import Errors, Fitted
from atoll.forecast.fleets import FleetLine
from atoll.forecast.limits import Limit, late_limit
from atoll.forecast.outlook import USABLE, Outlook, Workload
from atoll.forecast.prices import hourly_usd
from atoll.forecast.rings import ring_outlook
from atoll.forecast.servers import server_outlook
from atoll.forecast.targets import Target

TOKENS_MAX = 1e7
LPU_BITS = 8.0
"""Of a weight on LPUs: what chip counts of public systems imply (a byte a weight)."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a fleet would do; 0: not known, and `notes` say why.

    `token_s` and `first_s` are of a stream alone. `streams` is how many the target allows at
    once (no target: all there is room for), `limit` what one more would break (None: not known),
    `loaded_s` a token's time with so many, and `tokens_per_s` what they get together. `fleets`
    is how many of it the rate needs. Forecasts of a stream alone were off by `alone_error`,
    those of all streams by `error`, those of `watts` by `power_error`.
    """

    fleet: FleetLine
    token_s: float
    first_s: float
    streams: int
    limit: Limit | None
    loaded_s: float
    tokens_per_s: float
    watts: float
    hourly: float
    fleets: int
    alone_error: Errors
    error: Errors
    power_error: Errors
    notes: tuple[str, ...] = ()

    @property
    def joules_per_token(self) -> float:
        """Energy of a token under that load, 0: not known."""
        return self.watts / self.tokens_per_s if self.tokens_per_s else 0.0

    @property
    def usd_per_million(self) -> float:
        """US dollars for a million tokens under that load, 0: not known."""
        return self.hourly / self.tokens_per_s / 3600 * 1e6 if self.tokens_per_s else 0.0


def forecast(fleet: FleetLine, work: Workload, target: Target, fitted: Fitted) -> Forecast:
    """What the fleet would do.

    Raises:
        BadRequest: It cannot hold the model, too little is published of its devices, or a
            request has no sane number of tokens.
    """
    if not (0 < work.prompt <= TOKENS_MAX and 0 < work.answer <= TOKENS_MAX):
        raise BadRequest(
            f"a request has 1 to {TOKENS_MAX:,.0f} tokens of a prompt, and of an answer"
        )
    if fleet.device.kind in ("memory-pool", "fabric", "fabric-nic"):
        raise BadRequest(
            f"{fleet.device.name} computes nothing", hint="name the machines that it is to serve"
        )
    _check_memory(fleet, work)
    if fleet.device.kind == "lpu":
        return _finished(fleet, work, target, _lpu_outlook(fleet, work, target, fitted))
    if not fleet.device.bandwidth:
        raise BadRequest(
            f"the memory bandwidth of {fleet.device.name} is not published",
            hint="describe the device in a file of your own",
        )
    if fleet.is_ring or fleet.device.kind in ("soc", "cpu"):
        return _finished(fleet, work, target, ring_outlook(fleet, work, target, fitted))
    if not fleet.device.best_flops(work.bits):
        raise BadRequest(
            f"what {fleet.device.name} computes in a second is not published",
            hint="describe the device in a file of your own",
        )
    return _finished(fleet, work, target, server_outlook(fleet, work, target, fitted))


def _check_memory(fleet: FleetLine, work: Workload) -> None:
    bits = LPU_BITS if fleet.device.kind == "lpu" else work.bits
    needed = work.shape.total_params * bits / 8
    if fleet.memory * USABLE < needed:
        each = fleet.device.memory * USABLE
        how = (
            f"it takes {math.ceil(needed / each):,} of them" if each else "its memory is not known"
        )
        raise BadRequest(
            f"{fleet.name} cannot hold {work.shape.name}: {needed / 2**30:,.1f} GiB of weights",
            hint=how,
        )


def _lpu_outlook(fleet: FleetLine, work: Workload, target: Target, fitted: Fitted) -> Outlook:
    token_s = lpu.token_s(work.shape, fitted.constants)
    first_s = lpu.first_token_s(fitted.constants)
    late = late_limit(target, first_s, token_s, "for a stream alone")
    unknown = "how many streams such a system serves at once is not published"
    return Outlook(
        *(token_s, first_s, 0, token_s, late, fleet.n * fleet.device.power),
        alone_error=fitted.errors["lpu"],
        error=fitted.errors["lpu"],
        power_error=fitted.errors["power"],
        notes=(unknown, late.figure) if late else (unknown,),
    )


def _finished(fleet: FleetLine, work: Workload, target: Target, outlook: Outlook) -> Forecast:
    rate = outlook.streams / outlook.loaded_s
    hourly = fleet.n * hourly_usd(fleet.device, work.paid)
    notes = list(outlook.notes)
    if not outlook.watts:
        notes.append(f"the power of {fleet.device.name} is not published")
    if not hourly:
        notes.append(f"no price an hour of {fleet.device.name} is known")
    return Forecast(
        fleet=fleet,
        token_s=outlook.token_s,
        first_s=outlook.first_s,
        streams=outlook.streams,
        limit=outlook.limit,
        loaded_s=outlook.loaded_s,
        tokens_per_s=rate,
        watts=outlook.watts,
        hourly=hourly,
        fleets=math.ceil(target.rate * work.answer / rate) if rate else 0,
        alone_error=outlook.alone_error,
        error=outlook.error,
        power_error=outlook.power_error,
        notes=tuple(notes),
    )
