"""`atoll drain`: take a node out of its rings, and wait until it is out."""

from __future__ import annotations

import asyncio

import msgspec

from atoll.cli.nodes import NodesFlags
from atoll.cli.running import run
from atoll.cli.screen import printable, say, show_json
from atoll.cli.settings import flags
from atoll.cli.status import ask_status
from atoll.client.endpoint import Endpoint, choose_endpoint
from atoll.domain.errors import AtollError
from atoll.net.home import is_home_held

LOOK_S = 0.3


class StillServing(AtollError):
    """The node has a part in a ring yet."""

    exit_code = 7


@flags
class DrainFlags(NodesFlags):
    """Options of `atoll drain`."""

    wait: float = 120.0
    """Seconds to wait until the node has no part in any ring; 0: do not wait."""


class Drained(msgspec.Struct, frozen=True):
    """What `--json` prints: the node, and whether it has a part in a ring yet."""

    node: str
    name: str
    serves: bool


def drain(node: str, /, *, options: DrainFlags | None = None) -> None:
    """Take a node out of its rings; its streams go on elsewhere, not a token lost.

    Streams that do not end within a few seconds move. They pause for long only where the node
    that takes its place does not stand by: it has to fetch the layers then. Where no other
    can take its place the node goes on until one has joined. `atoll nodes resume NODE` undoes it.

    Example: `atoll drain anna-pc`

    Args:
        node: Its name, or the beginning of its key, as `atoll nodes list` shows them.
    """
    options = options or DrainFlags()
    enrolled = options.register().rest(node, resting=True)
    serves = False
    if is_home_held(options.home_dir(), "gateway"):
        endpoint = choose_endpoint(None, "", options.home_dir())
        serves = run(_still_serves(endpoint, enrolled.node, options.wait))
    if options.json:
        show_json(Drained(enrolled.node, enrolled.name, serves))
    elif not serves:
        say(f"{printable(enrolled.name)} has no part in any ring")
    if serves and options.wait > 0:
        raise StillServing(
            f"{printable(enrolled.name)} still has a part after {options.wait:g} s",
            hint="no other node can take its place: let one join, or see 'atoll status'",
        )


async def _still_serves(endpoint: Endpoint, node: str, wait_s: float) -> bool:
    """Whether a node has a part in a ring, once it has none or the time is over."""
    until_s = asyncio.get_running_loop().time() + wait_s
    while True:
        status = await ask_status(endpoint)
        if all(stage.node != node for ring in status.rings for stage in ring.stages):
            return False
        if asyncio.get_running_loop().time() >= until_s:
            return True
        await asyncio.sleep(LOOK_S)
