"""The ring's numbers as tables."""

from __future__ import annotations

from rich.table import Table

from atoll.cli.screen import megabytes, printable
from atoll.gateway.status import LapStatus, RingStatus, StageStatus


def ring_lines(status: RingStatus) -> list[str]:
    """What is served, and whether it can be."""
    lines = [
        f"{status.model}: {status.architecture}, {status.quantisation}, {status.n_layers} layers,"
        f" context {status.context}, up to {status.streams} answers at once",
        "ready" if status.ready else f"not ready: {status.reason}",
    ]
    if status.nodes_missing:
        lines.append(f"nodes still to join: {status.nodes_missing}")
    held = ", ".join(layer_range(first, last) for first, last in status.ends)
    if held:
        on = f" on {printable(status.ends_device)}" if status.ends_device else ""
        lines.append(
            f"the gateway holds layers {held} in {megabytes(status.gateway_memory_bytes)} MiB{on}"
        )
    devices = "; ".join(
        f"{printable(stage.name)} on {printable(stage.device)}"
        for stage in status.stages
        if stage.device
    )
    if devices:
        lines.append(f"stages are computed by {devices}")
    lines.append(f"answers in progress: {status.active}, waiting: {status.waiting}")
    return lines


def stage_table(stages: tuple[StageStatus, ...]) -> Table:
    """Who holds what."""
    table = _table("stages", ("node", "layers", "address"), ("shard MiB", "memory MiB", "sessions"))
    table.add_column("not isolated from")
    for stage in stages:
        table.add_row(
            printable(stage.name),
            layer_range(stage.first, stage.last),
            printable(stage.address + (" (quic)" if stage.carrier == "quic" else "")),
            _shard_cell(stage),
            megabytes(stage.memory_bytes),
            str(stage.sessions),
            printable(", ".join(stage.isolation_missing)),
        )
    return table


def _shard_cell(stage: StageStatus) -> str:
    if stage.ready:
        return megabytes(stage.shard_bytes)
    if stage.fetch_bytes:
        return f"{100 * stage.fetched_bytes // stage.fetch_bytes} % here"
    return "loading"


def time_table(stages: tuple[StageStatus, ...]) -> Table:
    """How long a decode step takes where, on average, and what was done."""
    places = ("engine", "convert", "pipe", "node")
    table = _table(
        "milliseconds a step", ("node",), (*places, "steps", "batches", "windows", "rows")
    )
    for stage in stages:
        times = (stage.engine_ms, stage.convert_ms, stage.pipe_ms, stage.node_ms)
        counts = (stage.steps, stage.batches, stage.windows, stage.rows)
        table.add_row(
            printable(stage.name), *(f"{ms:.2f}" for ms in times), *(str(n) for n in counts)
        )
    return table


def _table(title: str, texts: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in texts:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def lap_line(lap: LapStatus) -> str:
    """Where the time of a decode step goes."""
    total = lap.overhead_ms + lap.stages_ms + lap.ends_ms + lap.sampling_ms
    return (
        f"a token takes {total:.1f} ms (median of {lap.steps}): stages {lap.stages_ms:.1f},"
        f" ends {lap.ends_ms:.1f}, sampling {lap.sampling_ms:.1f},"
        f" all else {lap.overhead_ms:.1f}"
    )


def layer_range(first: int, last: int) -> str:
    """A half-open range as people write it."""
    return f"{first}" if last - first == 1 else f"{first}-{last - 1}"
