"""`atoll plan`: which layers on which machine, and what will come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveInt
from rich.table import Table

from atoll.cli.screen import data_console, megabytes, printable, say, show_json
from atoll.cli.settings import StoreFlags, flags
from atoll.cli.tables import layer_range
from atoll.domain.errors import BadRequest
from atoll.model.architectures import boundaries
from atoll.model.manifest import describe
from atoll.model.parts import open_model
from atoll.plan.fleet import Demand
from atoll.plan.fleet_file import parse_fleet
from atoll.plan.report import PlanReport, model_costs, report

FLEET_BYTES_MAX = 8 * 1024 * 1024
CHUNK_ROWS = 512


@flags
class PlanFlags(StoreFlags):
    """Options of `atoll plan`."""

    fleet: Annotated[Path, Parameter(negative=())]
    """A TOML file that describes machines and links."""

    streams: PositiveInt = 1
    """Answers at once that the ring is planned for."""

    context: PositiveInt = 2048
    """Longest prompt and answer together, of each of them."""

    prompt: PositiveInt = 512
    """Length of the prompt whose time to the first token is foretold."""

    ends: PositiveInt = 1
    """Layers at each end of the model that the gateway computes itself."""

    json: bool = False
    """Print the plan as JSON."""


def plan(model: str, /, *, options: PlanFlags) -> None:
    """Plan a ring: which layers on which machine, and what will come of it.

    Of the machines in the file those get a part that make the ring faster, as many layers as they
    are quick and have memory for, in the order that the links favour. Nothing is started. Printed
    are the parts, the time per token, tokens per second and time to the first token that they will
    have, what limits them, and what one more machine would bring.

    Example: `atoll plan mine --fleet fleet.toml --streams 8`

    Args:
        model: A model of the store, by name, id or path.
    """
    found = options.open_store().resolve(model)
    gguf = open_model(found.path)
    costs = model_costs(describe(gguf, found.model), boundaries(gguf), options.ends)
    demand = Demand(options.streams, options.context, CHUNK_ROWS, options.prompt)
    fleet = parse_fleet(_text(options.fleet), source=str(options.fleet))
    made = report(fleet, costs, demand, ends=options.ends)
    if options.json:
        show_json(made)
        return
    data_console().print(_table(made))
    for line in lines(made):
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


def _table(made: PlanReport) -> Table:
    table = Table(title="plan", box=None, header_style="bold")
    table.add_column("node")
    table.add_column("layers")
    for column in ("link ms", "step ms", "needs MiB", "has MiB"):
        table.add_column(column, justify="right")
    for stage in made.stages:
        table.add_row(
            printable(stage.name),
            layer_range(stage.first, stage.last),
            *(f"{stage.link_ms:.2f}", f"{stage.step_ms:.2f}"),
            *(megabytes(stage.need_bytes), megabytes(stage.memory_bytes)),
        )
    table.add_row("gateway", "ends", f"{made.back_ms:.2f}", f"{made.ends_ms:.2f}", "", "")
    return table


def lines(made: PlanReport) -> list[str]:
    """What the plan foretells, for people."""
    streams = "one stream" if made.streams == 1 else f"{made.streams} streams"
    found = [
        f"{made.token_ms:.1f} ms a token for a lone stream;"
        f" {made.tokens_per_s:.1f} tokens/s for {streams};"
        f" first token of a prompt of {made.prompt} after {made.first_token_ms / 1e3:.2f} s",
        printable(made.reason),
    ]
    if made.left_out:
        some = ", ".join(made.left_out[:8]) + (" and others" if len(made.left_out) > 8 else "")
        found.append(f"without a part, as the ring is faster so: {printable(some)}")
    if made.more_of and made.more_gain > 1.005:
        found.append(f"one more like {printable(made.more_of)}: {made.more_gain:.2f} times as fast")
    elif made.more_of:
        found.append("one more of these machines would bring nothing")
    if made.gap:
        found.append(
            f"the best plan there is may be up to {made.gap:.0%} faster; not all were tried"
        )
    return found
