"""`atoll compare`: what fleets would do with a model, before anybody buys, rents or joins one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.types import PositiveFloat
from rich.table import Table

from atoll.cli.catalogue import chosen_model, known_devices
from atoll.cli.screen import data_console, printable, say, show_json
from atoll.cli.settings import flags
from atoll.domain.errors import BadRequest
from atoll.forecast.compare import Forecast, forecast
from atoll.forecast.constants import shipped_fit
from atoll.forecast.fleets import SHIPPED, parse_fleet_line
from atoll.forecast.limits import Limit
from atoll.forecast.outlook import Workload
from atoll.forecast.prices import Paid
from atoll.forecast.shapes import ModelShape
from atoll.forecast.targets import parse_target

UNKNOWN = "-"


@flags
class CompareFlags:
    """Options of `atoll compare`."""

    model: str
    """A model by name, or a file: `.gguf`, a Hugging Face `config.json`, or `.toml`."""

    precision: str = "Q4_K_M"
    """How weights are packed: `F16`, `FP8`, `Q4_K_M` and others. Of a `.gguf`: as it is."""

    slo: str = ""
    """What users are to see at most: `ttft<0.5s,tpot<30ms`, or one of the two."""

    rate: str = ""
    """How many requests come: `5/s`, `30/min`."""

    prompt: PositiveFloat = 500.0
    """Tokens of a prompt."""

    answer: PositiveFloat = 250.0
    """Tokens of an answer."""

    paid: Paid = "on-demand"
    """How devices are come by: rented by the hour, `spot`, for `three-years`, or `owned`."""

    devices: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = ()
    """TOML files of further devices."""

    json: bool = False
    """Print the numbers as JSON."""


class FleetReply(msgspec.Struct, frozen=True):
    """What one fleet would do, for `--json`; null: not known, or not to be had.

    `limit` is what one more stream would break. Forecasts of a stream alone were off by the
    `alone_error`s, those of all streams by the others.
    """

    fleet: str
    problem: str
    token_s: float | None = None
    first_token_s: float | None = None
    streams: int | None = None
    limit: Limit | None = None
    loaded_token_s: float | None = None
    tokens_per_s: float | None = None
    watts: float | None = None
    joules_per_token: float | None = None
    usd_per_hour: float | None = None
    usd_per_million_tokens: float | None = None
    fleets_for_rate: int | None = None
    alone_error_median: float | None = None
    alone_error_p90: float | None = None
    error_median: float | None = None
    error_p90: float | None = None
    notes: tuple[str, ...] = ()


class CompareReply(msgspec.Struct, frozen=True):
    """All fleets, for `--json`."""

    model: str
    bits: float
    fleets: tuple[FleetReply, ...]


def compare(*fleets: str, options: CompareFlags) -> int:
    """Forecast what fleets would do with a model: speed, users, power and cost.

    A fleet is `N x DEVICE` for chips of one machine or system, `N x DEVICE @ TIME` for machines
    of their own in a ring, so far apart one way, or one of the shipped ones: lpu, 8xh100,
    8xb200, v6e-8, ironwood-8, 4-ultras, 6-rented, 200-homes. Forecasts are off; the last
    columns say how far those of the kind were, on published results they were not made from.

    Example: `atoll compare --model Llama-3.1-70B 8xh100 lpu "6 x RTX 4090 @ 40ms"`

    Example: `atoll compare --model Llama-3.1-8B --slo "tpot<30ms" --rate 5/s 8xh100 4-ultras`

    Args:
        fleets: Fleets to compare. Default: the shipped ones.
    """
    shape, bits = chosen_model(options.model, options.precision)
    target = parse_target(options.slo, options.rate)
    work = Workload(shape, bits, options.prompt, options.answer, options.paid)
    catalogue = known_devices(options.devices)
    replies = []
    for line in fleets or tuple(SHIPPED):
        fleet = parse_fleet_line(line, catalogue)
        try:
            replies.append(_reply(forecast(fleet, work, target, shipped_fit())))
        except BadRequest as problem:
            replies.append(FleetReply(fleet.name, str(problem)))
    if options.json:
        show_json(CompareReply(shape.name, round(bits, 3), tuple(replies)))
    else:
        _show(shape, bits, replies)
    return 0


def _reply(found: Forecast) -> FleetReply:
    return FleetReply(
        fleet=found.fleet.name,
        problem="",
        token_s=found.token_s,
        first_token_s=found.first_s,
        streams=found.streams if found.fleet.device.kind != "lpu" else None,
        limit=found.limit,
        loaded_token_s=found.loaded_s if found.streams else None,
        tokens_per_s=found.tokens_per_s or None,
        watts=found.watts or None,
        joules_per_token=found.joules_per_token or None,
        usd_per_hour=found.hourly or None,
        usd_per_million_tokens=found.usd_per_million or None,
        fleets_for_rate=found.fleets or None,
        alone_error_median=found.alone_error.median,
        alone_error_p90=found.alone_error.p90,
        error_median=found.error.median,
        error_p90=found.error.p90,
        notes=found.notes,
    )


def _show(shape: ModelShape, bits: float, replies: list[FleetReply]) -> None:
    table = Table(title=f"{printable(shape.name)}, {bits:.2f} bits a weight")
    table.add_column("fleet")
    for heading in (
        *("token ms", "first s", "streams", "bound by", "loaded ms", "tokens/s", "W", "J/token"),
        *("USD/h", "USD/Mtoken", "for the rate", "off by"),
    ):
        table.add_column(heading, justify="right")
    for reply in replies:
        table.add_row(printable(reply.fleet), *_cells(reply))
    data_console().print(table)
    for reply in replies:
        for note in _notes(reply):
            say(f"{reply.fleet}: {note}")


def _notes(reply: FleetReply) -> list[str]:
    """All that is to be said of a fleet; what bounds it once, though a note may say it too."""
    if reply.problem:
        return [reply.problem]
    if reply.limit is None:
        return list(reply.notes)
    others = [note for note in reply.notes if note != reply.limit.figure]
    return [f"bound by {reply.limit.bound}: {reply.limit.figure}", *others]


def _cells(reply: FleetReply) -> list[str]:
    def number(value: float | None, form: str = "{:.1f}", times: float = 1.0) -> str:
        return UNKNOWN if value is None else form.format(value * times)

    off = UNKNOWN
    if reply.error_median is not None and reply.error_p90 is not None:
        off = f"{reply.error_median:.0%}, {reply.error_p90:.0%}"
    return [
        number(reply.token_s, times=1e3),
        number(reply.first_token_s, "{:.2f}"),
        number(reply.streams, "{:.0f}"),
        reply.limit.bound if reply.limit else UNKNOWN,
        number(reply.loaded_token_s, times=1e3),
        number(reply.tokens_per_s, "{:,.0f}"),
        number(reply.watts, "{:,.0f}"),
        number(reply.joules_per_token, "{:.3g}"),
        number(reply.usd_per_hour, "{:.2f}"),
        number(reply.usd_per_million_tokens, "{:.2f}"),
        number(reply.fleets_for_rate, "{:,.0f}"),
        off,
    ]
