"""The ring's numbers as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from atoll.cli.screen import megabytes, printable
from atoll.client.measure import Server
from atoll.client.rates import Rate
from atoll.gateway.status import GatewayStatus, LapStatus, MemoryStatus, RingStatus, StageStatus
from atoll.plan.report import PlanReport, RingsReport


def ring_lines(status: GatewayStatus) -> list[str]:
    """What is served, and whether it can be."""
    lines = [
        f"{status.model}: {status.architecture}, {status.quantisation}, {status.n_layers} layers,"
        f" context {status.context}, up to {status.streams} answers at once",
        "ready" if status.ready else f"not ready: {status.reason}",
    ]
    if status.nodes_missing:
        lines.append(f"nodes still to join: {status.nodes_missing}")
    held = ", ".join(layer_range(first, last) for first, last in status.ends)
    held_by = sorted({ring.ends_device for ring in status.rings if ring.ends_device})
    if held:
        on = f" on {printable(', '.join(held_by))}" if held_by else ""
        lines.append(
            f"the gateway holds layers {held} in {megabytes(status.gateway_memory_bytes)} MiB{on}"
        )
    devices = "; ".join(
        f"{printable(stage.name)} on {printable(stage.device)}"
        for ring in status.rings
        for stage in ring.stages
        if stage.device
    )
    if devices:
        lines.append(f"stages are computed by {devices}")
    lines.append(f"answers in progress: {status.active}, waiting: {status.waiting}")
    return lines


def ring_heading(number: int, ring: RingStatus) -> str:
    """Of several rings one: whether it can answer, and how busy it is."""
    if not ring.ready:
        return f"ring {number}: not ready: {ring.reason}"
    return f"ring {number}: answers in progress: {ring.active}, waiting: {ring.waiting}"


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


def memory_table(nodes: tuple[MemoryStatus, ...]) -> Table:
    """Who only lends memory, and how much of it is used."""
    table = _table("memory", ("node", "part", "address"), ("lent MiB", "used MiB", "blobs"))
    for node in nodes:
        table.add_row(
            printable(node.name),
            "memory",
            printable(node.address + (" (quic)" if node.carrier == "quic" else "")),
            megabytes(node.lent_bytes),
            megabytes(node.used_bytes),
            str(node.blobs),
        )
    return table


def _shard_cell(stage: StageStatus) -> str:
    if stage.ready:
        return megabytes(stage.shard_bytes)
    if stage.fetch_bytes:
        return f"{100 * stage.fetched_bytes // stage.fetch_bytes} % here"
    return "loading"


def plan_table(plan: PlanReport, stages: Sequence[StageStatus] = ()) -> Table:
    """A plan's parts, with what running stages take beside what was foretold."""
    measured = {
        stage.name: stage.engine_ms + stage.convert_ms + stage.pipe_ms + stage.node_ms
        for stage in stages
        if stage.steps
    }
    columns = ("link ms", "step ms", *(("measured ms",) if stages else ()), "needs MiB", "has MiB")
    table = _table("plan", ("node", "layers"), columns)
    for stage in plan.stages:
        seen = measured.get(stage.name)
        table.add_row(
            printable(stage.name),
            layer_range(stage.first, stage.last),
            *(f"{stage.link_ms:.2f}", f"{stage.step_ms:.2f}"),
            *((f"{seen:.2f}" if seen is not None else "",) if stages else ()),
            *(megabytes(stage.need_bytes), megabytes(stage.memory_bytes)),
        )
    blank = ("",) if stages else ()
    table.add_row("gateway", "ends", f"{plan.back_ms:.2f}", f"{plan.ends_ms:.2f}", *blank, "", "")
    return table


def plan_lines(plan: PlanReport, lap: LapStatus | None = None) -> list[str]:
    """What a plan foretells, for people, and what a running ring takes."""
    streams = "one stream" if plan.streams == 1 else f"{plan.streams} streams"
    found = [
        f"foretold: {plan.token_ms:.1f} ms a token for a lone stream;"
        f" {plan.tokens_per_s:.1f} tokens/s for {streams};"
        f" first token of a prompt of {plan.prompt} after {plan.first_token_ms / 1e3:.2f} s",
        printable(plan.reason),
    ]
    if lap is not None:
        found.insert(1, f"measured: {_lap_ms(lap):.1f} ms a token (median of {lap.steps})")
    if plan.chunk_rows:
        found.append(_chunk_line(plan))
    if plan.left_out:
        some = ", ".join(plan.left_out[:8]) + (" and others" if len(plan.left_out) > 8 else "")
        found.append(f"without a part, as the ring is faster so: {printable(some)}")
    if plan.more_of and plan.more_gain > 1.005:
        found.append(f"one more like {printable(plan.more_of)}: {plan.more_gain:.2f} times as fast")
    elif plan.more_of:
        found.append("one more of these machines would bring nothing")
    if plan.gap:
        found.append(f"the best plan may be up to {plan.gap:.0%} faster, as not all were tried")
    return found


def _chunk_line(plan: PlanReport) -> str:
    """How prompts enter."""
    line = f"prompts enter in chunks of {plan.chunk_rows} rows"
    if plan.beside_rows:
        line += (
            f"; of {plan.beside_rows} while others get tokens, who wait up to"
            f" {plan.beside_ms:.0f} ms for one"
        )
    return line + (", as bytes, for a slow link" if plan.short_rows else "")


def together_lines(plan: RingsReport) -> list[str]:
    """What several rings give together; empty for one."""
    if len(plan.rings) < 2:
        return []
    streams = "one stream" if plan.streams == 1 else f"{plan.streams} streams"
    return [f"all {len(plan.rings)} rings: {plan.tokens_per_s:.1f} tokens/s for {streams}"]


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
    return (
        f"a token takes {_lap_ms(lap):.1f} ms (median of {lap.steps}): stages {lap.stages_ms:.1f},"
        f" ends {lap.ends_ms:.1f}, sampling {lap.sampling_ms:.1f},"
        f" all else {lap.overhead_ms:.1f}"
    )


def exact_lines(ring: RingStatus) -> list[str]:
    """What is to be known of exact answers, where there is something."""
    lines = []
    singly = ["the gateway"] if ring.ends_row_by_row else []
    singly += [printable(stage.name) for stage in ring.stages if stage.row_by_row]
    if singly:
        lines.append(f"exact answers take longer, a row at a time on {', '.join(singly)}")
    if ring.exact_problem:
        lines.append(f"exact answers may differ from before: {printable(ring.exact_problem)}")
    return lines


def wire_line(ring: RingStatus) -> str:
    """How hidden states travel."""
    return f"hidden states travel as {printable(ring.wire)}, in exact answers as f32"


def guess_line(ring: RingStatus) -> str:
    """How guesses at the next tokens fared."""
    share = ring.guessed_right / ring.guessed
    return f"guessed tokens: {ring.guessed} checked, {share:.0%} of them right"


def parked_line(ring: RingStatus) -> str:
    """How many conversations rest outside the slots."""
    here = megabytes(ring.parked_bytes)
    return f"parked conversations: {ring.parked}, of which the gateway keeps {here} MiB"


def _lap_ms(lap: LapStatus) -> float:
    return lap.overhead_ms + lap.stages_ms + lap.ends_ms + lap.sampling_ms


def layer_range(first: int, last: int) -> str:
    """A half-open range as people write it."""
    return f"{first}" if last - first == 1 else f"{first}-{last - 1}"


def rate_lines(server: Server, rates: Sequence[Rate], version: str) -> list[str]:
    """What was measured: a table in Markdown that reads well as text too, and what it is of.

    Columns and names are those of llama-bench, where it has them.

    Args:
        server: What answered.
        rates: The rows.
        version: Ours.

    Source: llama.cpp, tools/llama-bench/README.md, "Markdown".
    """
    ring = server.version is not None
    heads = ["model", *(("quantisation", "nodes") if ring else ()), "test", "t/s"]
    heads += ["first token ms", "token ms p50", "token ms p99"]
    # llama.cpp's server names a model by its path, which is nobody else's business.
    name = server.model.rpartition("/")[2] if server.model.startswith("/") else server.model
    of = [name, *((str(server.quantisation), str(server.nodes)) if ring else ())]
    rows = [
        [
            *of,
            rate.test,
            f"{rate.tokens_per_s:.2f} ± {rate.sd:.2f}",
            f"{rate.first_ms_p50:.1f}",
            _ms(rate.token_ms_p50),
            _ms(rate.token_ms_p99),
        ]
        for rate in rates
    ]
    n_rounds = sorted({rate.rounds for rate in rates})
    plural = "" if n_rounds == [1] else "s"
    told = f"mean ± standard deviation of {' to '.join(map(str, n_rounds))} round{plural}"
    if ring:
        told = (
            f"{server.architecture}, {server.layers} layers, context {server.context};"
            f" {told}; atoll {server.version}, measured by {version}"
        )
    else:
        told = f"{told}; measured by atoll {version}"
    return [*markdown_table(heads, rows, n_texts=2 if ring else 1), "", printable(told)]


def _ms(time_ms: float | None) -> str:
    return "" if time_ms is None else f"{time_ms:.2f}"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], n_texts: int) -> list[str]:
    """Lines of a table whose columns after the first `n_texts` end on the right."""
    clean = [[_cell(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*clean, strict=True)]
    rules = [
        "-" * width if place < n_texts else "-" * (width - 1) + ":"
        for place, width in enumerate(widths)
    ]
    aligned = [
        [
            cell.ljust(width) if place < n_texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in clean
    ]
    return [f"| {' | '.join(cells)} |" for cells in (aligned[0], rules, *aligned[1:])]


def _cell(text: str) -> str:
    """On one line, and without what ends a cell."""
    return printable(" ".join(text.split())).replace("|", "\\|")
