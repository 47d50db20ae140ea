"""`atoll status`: the running ring in numbers."""

from __future__ import annotations

from rich.console import Console

from atoll.cli.link_table import link_table
from atoll.cli.running import run
from atoll.cli.screen import data_console, show_json
from atoll.cli.settings import flags
from atoll.cli.tables import (
    exact_lines,
    guess_line,
    lap_line,
    memory_table,
    parked_line,
    plan_lines,
    ring_heading,
    ring_lines,
    stage_table,
    time_table,
    wire_line,
)
from atoll.cli.target import TargetFlags
from atoll.client.api import ApiClient
from atoll.client.endpoint import Endpoint
from atoll.gateway.status import GatewayStatus, RingStatus


@flags
class StatusFlags(TargetFlags):
    """Options of `atoll status`."""

    json: bool = False
    """Print the numbers as JSON."""


def status(*, options: StatusFlags | None = None) -> int:
    """Show the running ring: its stages, their speed and memory.

    Of each link between them it shows how long the way was foretold to be, and is; of nodes
    that only lend memory how much they lend, and how much of it is used.
    The exit code is 0 if the ring can answer and 7 if it cannot.

    Example: `atoll status`
    """
    options = options or StatusFlags()
    found = run(ask_status(options.endpoint()))
    if options.json:
        show_json(found)
    else:
        console = data_console()
        for line in ring_lines(found):
            console.print(line, soft_wrap=True)
        for number, ring in enumerate(found.rings, start=1):
            if len(found.rings) > 1:
                console.print(ring_heading(number, ring), soft_wrap=True)
            _show(ring, console)
        if found.memory:
            console.print(memory_table(found.memory))
    return 0 if found.ready else 7


def _show(ring: RingStatus, console: Console) -> None:
    if ring.stages:
        console.print(stage_table(ring.stages))
        console.print(time_table(ring.stages))
        console.print(link_table(ring.plan.links if ring.plan else (), ring.links))
    if ring.plan is not None:
        for line in plan_lines(ring.plan):
            console.print(line, soft_wrap=True)
    if ring.lap is not None:
        console.print(lap_line(ring.lap), soft_wrap=True)
    if ring.wire:
        console.print(wire_line(ring), soft_wrap=True)
    for line in exact_lines(ring):
        console.print(line, soft_wrap=True)
    if ring.guessed:
        console.print(guess_line(ring), soft_wrap=True)
    if ring.parked:
        console.print(parked_line(ring), soft_wrap=True)


async def ask_status(endpoint: Endpoint) -> GatewayStatus:
    """Ask once.

    Raises:
        ApiFault: There is no gateway, or it refuses.
    """
    async with ApiClient(endpoint) as client:
        return await client.status()
