"""What each of several fleets would do with a model: speed, how many users, power, cost.

Chips with a fixed schedule, servers of accelerators and rings of machines have cost models of
their own (`lpu`, `servers`, `rings`); here they answer the same questions. With each goes how
far forecasts of its kind were off where it could be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from atoll.domain.errors import BadRequest
from atoll.forecast import lpu
from atoll.forecast.constants import Errors, Fitted
from atoll.forecast.disaggregated import disaggregated_outlook
from atoll.forecast.fleet_file import Fleet, Part
from atoll.forecast.fleets import FleetLine
from atoll.forecast.limits import Limit, late_limit
from atoll.forecast.lpu_compiled import schedule_note
from atoll.forecast.outlook import Outlook, Workload
from atoll.forecast.prices import hourly_usd
from atoll.forecast.rings import ring_outlook
from atoll.forecast.servers import server_outlook
from atoll.forecast.systems import check_part, systems_of
from atoll.forecast.targets import Target


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a fleet would do; 0: not known, and `notes` say why.

    `token_s` and `first_s` are of a stream alone. `streams` is how many the target allows at
    once (no target: all there is room for), `limit` what one more would break (None: not known),
    `loaded_s` a token's time with so many, and `tokens_per_s` what they get together. `fleets`
    is how many of it the rate needs. Forecasts of a stream alone were off by `alone_error`,
    those of all streams by `error`, those of `watts` by `power_error`.
    """

    fleet: Fleet
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
    def knows_streams(self) -> bool:
        """Whether anything is known of how many streams it serves at once."""
        return any(part.line.device.kind != "lpu" for part in self.fleet.parts)

    @property
    def joules_per_token(self) -> float:
        """Energy of a token under that load, 0: not known."""
        return self.watts / self.tokens_per_s if self.tokens_per_s else 0.0

    @property
    def usd_per_million(self) -> float:
        """US dollars for a million tokens under that load, 0: not known."""
        return self.hourly / self.tokens_per_s / 3600 * 1e6 if self.tokens_per_s else 0.0


def forecast(fleet: Fleet, work: Workload, target: Target, fitted: Fitted) -> Forecast:
    """What the fleet would do.

    Raises:
        BadRequest: A part cannot hold the model, too little is published of its devices, or a
            request has no sane number of tokens.
    """
    costs = [_hourly(part, work) for part in fleet.parts]
    hourly = sum(costs) if all(costs) else 0.0
    return _finished(fleet, work, target, _whole(fleet, work, target, fitted), hourly)


def _whole(fleet: Fleet, work: Workload, target: Target, fitted: Fitted) -> Outlook:
    """Parts with roles work for each other, others beside each other."""
    roles = {part.role for part in fleet.parts}
    if roles == {"prefill", "decode"}:
        return disaggregated_outlook(fleet, work, target, fitted)
    if roles != {"all"}:
        raise BadRequest(
            f"{fleet.name}: parts of all three roles are not compared",
            hint="atoll simulate runs them under requests",
        )
    outlooks = [_outlook(part, work, target, fitted) for part in fleet.parts]
    return outlooks[0] if len(outlooks) == 1 else _together(fleet, outlooks)


def _outlook(part: Part, work: Workload, target: Target, fitted: Fitted) -> Outlook:
    check_part(part, work)
    if part.is_rings:
        systems = systems_of(part, work, fitted.constants)
        return ring_outlook(systems, work, target, fitted)
    if part.line.device.kind == "lpu":
        one = _lpu_outlook(part.line, work, target, fitted)
    else:
        one = server_outlook(part.line, work, target, fitted, part.caches)
    return replace(one, streams=one.streams * part.count, watts=one.watts * part.count)


def _hourly(part: Part, work: Workload) -> float:
    """US dollars an hour, 0: not known."""
    devices = part.ring or (part.line.device,) * part.line.n
    prices = {device.name: hourly_usd(device, work.paid) for device in devices}
    if not all(prices.values()):
        return 0.0
    return part.count * sum(prices[device.name] for device in devices)


def _together(fleet: Fleet, outlooks: list[Outlook]) -> Outlook:
    """Parts that serve beside each other. A stream alone is answered by the fastest; what is said
    of all streams is off as forecasts of the part with most of the tokens are.
    """
    fastest = min(outlooks, key=lambda one: one.token_s)
    rates = [one.streams / one.loaded_s for one in outlooks]
    rate, streams = sum(rates), sum(one.streams for one in outlooks)
    at = rates.index(max(rates))
    largest, name = outlooks[at], fleet.parts[at].name
    limit = largest.limit
    notes = [
        f"{part.name}: {note}"
        for part, one in zip(fleet.parts, outlooks, strict=True)
        for note in one.notes
    ]
    return Outlook(
        token_s=fastest.token_s,
        first_s=fastest.first_s,
        streams=streams,
        loaded_s=streams / rate if rate else fastest.token_s,
        limit=Limit(limit.bound, f"{name}: {limit.figure}") if limit else None,
        watts=sum(one.watts for one in outlooks) if all(o.watts for o in outlooks) else 0.0,
        alone_error=fastest.alone_error,
        error=largest.error,
        power_error=largest.power_error,
        notes=tuple(notes),
    )


def _lpu_outlook(fleet: FleetLine, work: Workload, target: Target, fitted: Fitted) -> Outlook:
    token_s = lpu.token_s(work.shape, fitted.constants)
    first_s = lpu.first_token_s(fitted.constants)
    late = late_limit(target, first_s, token_s, "for a stream alone")
    unknown = "how many streams such a system serves at once is not published"
    notes = [unknown, *schedule_note(work.shape, fleet.device), *([late.figure] if late else ())]
    return Outlook(
        *(token_s, first_s, 0, token_s, late, fleet.n * fleet.device.power),
        alone_error=fitted.errors["lpu"],
        error=fitted.errors["lpu"],
        power_error=fitted.errors["power"],
        notes=tuple(notes),
    )


def _finished(
    fleet: Fleet, work: Workload, target: Target, outlook: Outlook, hourly: float
) -> Forecast:
    rate = outlook.streams / outlook.loaded_s
    notes = list(outlook.notes)
    devices = {d.name: d for part in fleet.parts for d in part.ring or (part.line.device,)}
    for name, device in devices.items():
        if not device.power:
            notes.append(f"the power of {name} is not published")
        if not hourly_usd(device, work.paid):
            notes.append(f"no price an hour of {name} is known")
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
