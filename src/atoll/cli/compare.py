"""`atoll compare`: what fleets would do with a model, before anybody buys, rents or joins one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.types import PositiveFloat

from atoll.cli.catalogue import chosen_fleet, chosen_model, known_devices
from atoll.cli.report_tables import show_table
from atoll.cli.screen import say, show_json
from atoll.cli.settings import flags
from atoll.domain.errors import BadRequest
from atoll.forecast.compare import forecast
from atoll.forecast.constants import shipped_fit
from atoll.forecast.fleet_file import shipped_fleets
from atoll.forecast.limits import Limit
from atoll.forecast.outlook import Workload
from atoll.forecast.prices import Paid
from atoll.forecast.targets import parse_target
from atoll.report.files import check_report, write_report
from atoll.report.fleets import Compared, Question, fleet_page, fleet_table


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

    devices: Annotated[tuple[Path, ...], Parameter(consume_multiple=False)] = ()
    """A TOML file of further devices; may be given several times."""

    report: Path | None = None
    """Draw it too: a page (`.html`) or a picture (`.svg`, `.png`). Needs the extra `charts`."""

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
    of their own in rings, so far apart one way, several of them with ` + ` between, a TOML file,
    or one of the shipped ones: lpu, 8xh100, 8xb200, v6e-8, ironwood-8, 4-ultras, 6-rented,
    200-homes (with drafts), mix. Forecasts are off; the last columns say how far those of the
    kind were, on published results they were not made from.

    Example: `atoll compare --model Llama-3.1-70B 8xh100 lpu "6 x RTX 4090 @ 40ms"`

    Example: `atoll compare --model Llama-3.1-8B --slo "tpot<30ms" --rate 5/s 8xh100 4-ultras`

    Example: `atoll compare --model Llama-3.1-70B --report fleets.html`

    Args:
        fleets: Fleets to compare. Default: the shipped ones.
    """
    report = options.report.expanduser() if options.report else None
    if report:
        check_report(report)
    shape, bits = chosen_model(options.model, options.precision)
    target = parse_target(options.slo, options.rate)
    work = Workload(shape, bits, options.prompt, options.answer, options.paid)
    catalogue = known_devices(options.devices)
    found = []
    for text in fleets or tuple(shipped_fleets()):
        fleet = chosen_fleet(text, catalogue)
        try:
            answer = forecast(fleet, work, target, shipped_fit())
            found.append(Compared(fleet, answer))
        except BadRequest as problem:
            found.append(Compared(fleet, None, str(problem)))
    if options.json:
        show_json(CompareReply(shape.name, round(bits, 3), tuple(map(_reply, found))))
    else:
        _show(f"{shape.name}, {bits:.2f} bits a weight", found)
    if report:
        write_report(report, fleet_page(Question(work, target), found))
        say(f"report: {report}")
    return 0


def _reply(compared: Compared) -> FleetReply:
    found = compared.forecast
    if found is None:
        return FleetReply(compared.name, compared.problem)
    return FleetReply(
        fleet=compared.name,
        problem="",
        token_s=found.token_s,
        first_token_s=found.first_s,
        streams=found.streams if found.knows_streams else None,
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


def _show(title: str, found: list[Compared]) -> None:
    show_table(fleet_table(found), title)
    for one in found:
        for note in _notes(one):
            say(f"{one.name}: {note}")


def _notes(compared: Compared) -> list[str]:
    """All that is to be said of a fleet; what bounds it once, though a note may say it too."""
    found = compared.forecast
    if found is None:
        return [compared.problem]
    if found.limit is None:
        return list(found.notes)
    others = [note for note in found.notes if note != found.limit.figure]
    return [f"bound by {found.limit.bound}: {found.limit.figure}", *others]
