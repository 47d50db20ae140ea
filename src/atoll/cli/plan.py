"""`atoll plan`: which layers on which machine, and what will come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from cyclopts.types import NonNegativeInt, PositiveInt

from atoll.cli.link_table import link_table
from atoll.cli.running import run
from atoll.cli.screen import data_console, say, show_json
from atoll.cli.settings import StoreFlags, flags
from atoll.cli.status import ask_status
from atoll.cli.tables import plan_lines, plan_table, together_lines
from atoll.cli.target import TargetFlags
from atoll.domain.errors import BadRequest
from atoll.domain.wire import F16_SCALED, I8_BLOCKS
from atoll.gateway.status import GatewayStatus
from atoll.model.architectures import boundaries
from atoll.model.manifest import describe
from atoll.model.parts import open_model
from atoll.plan.fleet import Demand
from atoll.plan.fleet_file import parse_fleet
from atoll.plan.replicas import RINGS_MAX
from atoll.plan.report import PlanReport, model_costs, report
from atoll.ring.coordinator_config import CHUNK_ROWS_MAX

FLEET_BYTES_MAX = 8 * 1024 * 1024


@flags
class PlanFlags(TargetFlags, StoreFlags):
    """Options of `atoll plan`."""

    fleet: Path | None = None
    """A TOML file that describes machines and links. Default: the running ring."""

    streams: PositiveInt = 1
    """Answers at once that a described fleet is planned for."""

    context: PositiveInt = 2048
    """Longest prompt and answer together, of each of them."""

    prompt: PositiveInt = 512
    """Length of the prompt whose time to the first token is foretold."""

    rings: PositiveInt = RINGS_MAX
    """Most rings of a described fleet that answer side by side, each of machines of its own."""

    ends: PositiveInt = 1
    """Layers at each end of the model that the gateway computes itself."""

    wire: Literal["auto", "f16", "int8"] = "auto"
    """How hidden states travel between described machines, as with `atoll serve`."""

    chunk_ms: NonNegativeInt = 100
    """Most milliseconds that a prompt's chunk may take one of them while others get tokens."""

    json: bool = False
    """Print the plan as JSON."""


class RunningPlan(msgspec.Struct, frozen=True):
    """The plans of the running rings beside what was measured of them, for `--json`."""

    rings: tuple[PlanReport, ...]
    status: GatewayStatus


def plan(model: str | None = None, /, *, options: PlanFlags | None = None) -> None:
    """Plan a ring: which layers on which machine, and what will come of it.

    With `--fleet` a ring of the machines in the file is planned, and nothing is started. Those get
    a part that make the ring faster, as many layers as they are quick and have memory for, in the
    order that the links favour. Without, it is the plan of the running ring, beside what was
    measured of it. Shown are the parts, the links between them, the time per token, tokens per
    second and time to the first token, what limits them, and what one more machine would bring.

    Example: `atoll plan`

    Example: `atoll plan mine --fleet fleet.toml --streams 8`

    Args:
        model: With `--fleet`, a model of the store, by name, id or path.
    """
    options = options or PlanFlags()
    if options.fleet is None:
        _running(model, options)
    elif model is None:
        raise BadRequest("which model?", hint="name it: atoll plan MODEL --fleet FILE")
    else:
        _described(model, options.fleet, options)


def _running(model: str | None, options: PlanFlags) -> None:
    if model is not None:
        raise BadRequest(
            "a model is planned for machines that are described",
            hint="give --fleet FILE, or no model for the plan of the running ring",
        )
    status = run(ask_status(options.endpoint()))
    planned = [(ring.plan, ring) for ring in status.rings if ring.plan is not None]
    if not planned:
        raise BadRequest(
            "the running ring has no plan: its parts are equal, or it is not formed yet",
            hint="atoll status shows it; atoll serve --plan auto plans by what nodes measure",
        )
    if options.json:
        show_json(RunningPlan(tuple(plan for plan, _ in planned), status))
        return
    for made, ring in planned:
        data_console().print(plan_table(made, ring.stages))
        data_console().print(link_table(made.links, ring.links))
        for line in plan_lines(made, ring.lap):
            say(line)


def _described(model: str, path: Path, options: PlanFlags) -> None:
    found = options.open_store().resolve(model)
    gguf = open_model(found.path)
    costs = model_costs(
        *(describe(gguf, found.model), boundaries(gguf), options.ends),
        encoding=I8_BLOCKS if options.wire == "int8" else F16_SCALED,
        short=I8_BLOCKS if options.wire == "auto" else "",
    )
    demand = Demand(
        streams=options.streams,
        context=options.context,
        chunk_rows=CHUNK_ROWS_MAX,
        prompt=options.prompt,
        chunk_auto=True,
        hold_s=options.chunk_ms / 1e3,
    )
    fleet = parse_fleet(_text(path), source=str(path))
    made = report(fleet, costs, demand, ends=options.ends, rings_max=options.rings)
    if options.json:
        show_json(made)
        return
    for number, ring in enumerate(made.rings, start=1):
        if number > 1:
            say(f"ring {number}{'' if ring.shared else ', for when the others are busy'}:")
        data_console().print(plan_table(ring))
        data_console().print(link_table(ring.links))
        for line in plan_lines(ring):
            say(line)
    for line in together_lines(made):
        say(line)


def _text(path: Path) -> str:
    try:
        with path.expanduser().open("rb") as file:
            content = file.read(FLEET_BYTES_MAX + 1)
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {error.strerror}") from error
    if len(content) > FLEET_BYTES_MAX:
        raise BadRequest(f"{path} is larger than any fleet file")
    return content.decode("utf-8", "replace")
