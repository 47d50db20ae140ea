"""What the operator of a gateway may choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from atoll.api.keeper import StreamKeeping
from atoll.api.server import HOST_DEFAULT, Tls
from atoll.domain.address import HostPort
from atoll.net.transport import Way
from atoll.node.keeping import Keeping
from atoll.ring.coordinator_config import CHUNK_ROWS, CHUNK_ROWS_MAX

PORT_DEFAULT = 8642
LINK_PORT_DEFAULT = 8643


@dataclass(frozen=True, slots=True)
class RingOptions:
    """Shape of the ring.

    Args:
        nodes: How many nodes share the layers between the ends.
        ends: Layers at each end that stay on the gateway's machine.
        streams: Sessions that may run at once.
        context: Positions a session may have.
        rows_max: Most rows in one engine call.
        chunk_rows: Rows of a prompt's chunks, at most.
        chunk_auto: Whether a plan may choose smaller ones; where there is none they have
            `CHUNK_ROWS`.
        chunk_ms: How long by the plan a chunk may keep a node or link busy while others
            decode; 0: prompts take no heed of them.
        waiting: Sessions that may wait for a place; more are refused.
        stall_s: How long a session may make no progress before the ring is formed anew.
        outage_s: How long a stream waits for a ring when it has lost its own.
        exact: Serve every request in exact mode.
        threads: Worker threads of the ends for a lone row: one stream's next token.
        threads_large: The same for several rows: prompts, and several streams.
        spin: Iterations that idle worker threads spin where stages share cores,
            which also take turns in short slices; None: the cores are its own.
        plan: `auto`: who computes what is planned by what was measured, and nodes that
            would slow the ring are left out; `equal`: equal shares for all places.
        plan_streams: Streams at once that the plan is made for.
        rings: Most rings of the model that may stand side by side.
        reuse: Keep what an answer left in the caches for the next request of the same API
            key that begins alike.
        keeping: What caches of conversations at rest may take on the gateway, beside slots.
        rest_s: How long a conversation may rest in a slot that nobody else wants.
        speculate: `lookup`: the next tokens are guessed from what stood before where that
            pays, so that a loop of the ring brings several; `none`: they are not.
        draft: File of a small model of the same vocabulary that guesses as well; empty: none.
        wire: How rows travel where a session is not exact: `f16`, `int8`, or `auto` for
            int8 where a link is what a prompt waits for (`gateway.wire_choice`).
        gpu: What computes the ends: `auto`, `none` or a GPU's number
            (`engine.devices.choose`).
    """

    nodes: int
    ends: int = 1
    streams: int = 8
    context: int = 2048
    rows_max: int = CHUNK_ROWS_MAX
    chunk_rows: int = CHUNK_ROWS
    chunk_auto: bool = False
    chunk_ms: int = 100
    waiting: int = 64
    stall_s: float = 60.0
    outage_s: float = 600.0
    exact: bool = False
    threads: int = 1
    threads_large: int = 1
    spin: int | None = None
    gpu: str = "auto"
    plan: Literal["auto", "equal"] = "equal"
    plan_streams: int = 1
    rings: int = 1
    speculate: Literal["lookup", "none"] = "lookup"
    reuse: bool = True
    keeping: Keeping = field(default_factory=Keeping)
    rest_s: float = 600.0
    draft: str = ""
    wire: Literal["auto", "f16", "int8"] = "auto"


@dataclass(frozen=True, slots=True)
class LanOptions:
    """Whether machines of the same network find the gateway.

    Args:
        announce: Announce it, unless it listens on this machine's loopback alone.
        host: The address of the interface to announce it on, even loopback; empty:
            that of `link_host`, or all.
        name: What it is called there; empty: the host's name.
    """

    announce: bool = True
    host: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Where the gateway listens and for whom.

    Args:
        host: Address of the API.
        port: Port of the API; 0 takes any free one.
        link_host: Address on which nodes are listened to.
        link_port: Port for nodes; 0 takes any free one.
        way: What may carry links: "tls", "quic", or "auto" for what gets through.
        relay: A relay at which nodes meet that cannot reach each other.
        advertise: Where nodes reach it, if not there: a forwarded port of a router.
        join_dir: Where join files are written.
        auth: Ask for API keys.
        tls: Certificate and key of the API.
        deadline_s: How long a request may take that does not say, seconds; 0: as long as
            it does.
        lan: Whether machines of the same network find it.
        streams: How long clients can go on with an answer, and how much is kept for that.
    """

    ring: RingOptions
    join_dir: Path
    host: str = HOST_DEFAULT
    port: int = PORT_DEFAULT
    link_host: str = HOST_DEFAULT
    link_port: int = 0
    advertise: tuple[HostPort, ...] = ()
    way: Way = "auto"
    relay: str = ""
    auth: bool = True
    tls: Tls | None = field(default=None)
    deadline_s: float = 600.0
    lan: LanOptions = field(default_factory=LanOptions)
    streams: StreamKeeping = field(default_factory=StreamKeeping)
