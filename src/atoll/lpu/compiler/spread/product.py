"""Products [rows x depth] times [depth x width] over many chips.

All inputs lie in memory before: of each chip its tiles of the weights, and all rows of the
part of the depth that these multiply. Chips that share a column tile multiply by it first, all
the same blocks of rows at about the same time; while they go on, partial sums of these blocks
are added over the links. The result stays where it was added.

Partial sums of f16 travel as f16, and are added in f32; those of int8 as int32, exactly.

What is lost against the peak: tiles of the depth and of columns that are not full; of the
longest part, less than a tile against the mean; and the sums of the last block.

Source of the task: Abts et al., ISCA 2022, pages 575 and 576, who split columns in eight and the
depth in up to 13. 1,024 columns are 3.2 tiles; here no tile is left empty for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.chain import LATER, Tensor
from atoll.lpu.compiler.rows.dense import Epilogue
from atoll.lpu.compiler.rows.items import Item, Rows
from atoll.lpu.compiler.rows.planes import Planes
from atoll.lpu.compiler.spread.line import line, links_among
from atoll.lpu.compiler.spread.links import Fabric, Streams
from atoll.lpu.compiler.spread.partial_sums import PartialSums
from atoll.lpu.compiler.spread.ports import Ports
from atoll.lpu.compiler.spread.product_layout import PARTIAL, Layout, Part, layouts, row_blocks
from atoll.lpu.compiler.spread.reduce_scatter import Span
from atoll.lpu.compiler.spread.split import Split, split
from atoll.lpu.program import NUMBER_BYTES, SIDES, Block, Number, Program, Step
from atoll.lpu.timing import FORMATS, Timing
from atoll.lpu.topology import Topology

STREAMS: dict[Number, Streams] = {
    "f16": Streams(outward=(14, 15), inward=(2, 3, 6, 7), sums=4),
    "int8": Streams(outward=(14, 15), inward=(1, 3, 5, 7), sums=10),
}
"""Streams that products leave free, for the most part: see `emission.py` and `planes.py`."""


@dataclass(frozen=True, slots=True)
class Result:
    """Part of the product on a chip: rows and columns, row `rows.first` at vector `first`."""

    chip: int
    rows: Span
    columns: Span
    tensor: Tensor
    first: int


@dataclass(frozen=True, slots=True)
class Product:
    """A schedule of a product of a shape (rows, depth, width).

    `line[place]` is the chip at a place of the split, `blocks` are the rows that a chip multiplies
    at a time. `multiplied` is the cycle in which the last
    partial sum of any chip is there. Shares of all cycles until the end: `peak_used` of the
    operations that the planes could do, `planes_busy` in which a plane multiplies, `links_used`
    in which a link between two of the chips carries vectors.
    """

    program: Program
    shape: tuple[int, int, int]
    split: Split
    line: tuple[int, ...]
    blocks: tuple[range, ...]
    number: Number
    results: tuple[Result, ...]
    seconds: float
    multiplied: int
    peak_used: float
    planes_busy: float
    links_used: float

    @property
    def cycles(self) -> int:
        """From the first read until all results are in memory."""
        return self.program.cycles


@dataclass(frozen=True, slots=True)
class _Work:
    """What the planes of a chip do, and where its partial sums are, as in a layout."""

    layout: Layout
    planes: Planes
    busy: int

    def sums(self, run: int, block: int) -> Tensor:
        """Partial sums, for one of several chips that do this."""
        held = self.layout.sums[run][block]
        return replace(held, there=list(held.there))


def product(
    timing: Timing,
    topology: Topology,
    shape: tuple[int, int, int],
    number: Number = "f16",
    *,
    chips: int | None = None,
) -> Product:
    """Compile a product.

    Args:
        timing: Of the chips.
        topology: The system.
        shape: Rows, depth, width.
        number: f16 or int8.
        chips: So many, but no more than there are tiles; all of the system unless told.

    Raises:
        BadRequest: The shape is empty, the format is none of the planes', there are no such
            chips or racks of them, or it does not fit into their memory.
    """
    if min(shape) < 1:
        raise BadRequest(f"a product of {shape[0]} rows, depth {shape[1]} and width {shape[2]}")
    if number not in PARTIAL:
        raise BadRequest(f"matrices of {number} are not multiplied", hint="int8 or f16")
    chips = topology.chips if chips is None else chips
    if chips > topology.chips:
        raise BadRequest(f"{chips} chips, and {topology.system.name} here has {topology.chips}")
    over = split(*shape[1:], chips, timing.lanes, timing.columns)
    used = line(topology)[: over.chips]
    blocks = row_blocks(timing, shape[0], number, fine=_is_fine(over))
    works = _multiplied(timing, shape, over, number)
    fabric = Fabric(timing, topology.chips, STREAMS[number])
    results = _added(fabric, topology, works, over=over, used=used, blocks=blocks)
    routine = fabric.routine(f"product on {over.chips} chips")
    step = Step(0, tuple(range(topology.chips)), 0)
    program = Program(topology.chips, (routine,), (step,), tuple(_blocks(over, works, used)))
    peak = timing.chip.macs_cycle(FORMATS[number]) * over.chips * program.cycles
    planes = len(SIDES) * timing.planes * program.cycles
    among = set(used)
    joined = sum({link.low, link.high} <= among for link in topology.links)
    return Product(
        program,
        shape,
        over,
        used,
        blocks,
        number,
        tuple(_clipped(results, shape[2])),
        program.cycles / timing.chip.hertz,
        max(max(t.there) for work in works for of in work.layout.sums for t in of),
        shape[0] * shape[1] * shape[2] / peak,
        sum(work.busy for work in works) / (planes * len(works)),
        fabric.link_cycles_used / (2 * joined * program.cycles) if joined else 0.0,
    )


def _is_fine(over: Split) -> bool:
    """Whether a chip has nothing but column tiles that it shares, so that their sums are last."""
    return any(
        not any(over.is_whole(run) for run in over.runs(place)) for place in range(over.chips)
    )


def _parts(timing: Timing, width: int, over: Split) -> list[Part]:
    """By places of the line."""
    return [
        Part(
            tuple(
                (
                    run.depth,
                    min(timing.columns, width - run.column * timing.columns),
                    over.is_whole(run),
                )
                for run in over.runs(place)
            )
        )
        for place in range(over.chips)
    ]


def _multiplied(
    timing: Timing, shape: tuple[int, int, int], over: Split, number: Number
) -> list[_Work]:
    """Planes at work, by places; those of equal parts are the same."""
    blocks = row_blocks(timing, shape[0], number, fine=_is_fine(over))
    parts = _parts(timing, shape[2], over)
    laid = layouts(timing, blocks, parts, number)
    if laid is None:
        raise BadRequest(
            f"a product of {shape[0]} rows, depth {shape[1]} and width {shape[2]} in {number} does "
            f"not fit into the memory of {over.chips} chips",
            hint=_would_do(timing, shape, over, number),
        )
    works = {part: _planes(timing, layout, part, number) for part, layout in laid.items()}
    return [works[part] for part in parts]


def _would_do(timing: Timing, shape: tuple[int, int, int], over: Split, number: Number) -> str:
    """How many chips it fits on, if not more than eight times as many."""
    for factor in range(2, 9):
        more = split(*shape[1:], factor * over.chips, timing.lanes, timing.columns)
        blocks = row_blocks(timing, shape[0], number, fine=_is_fine(more))
        if layouts(timing, blocks, _parts(timing, shape[2], more), number) is not None:
            return f"{more.chips} chips would do"
    return "fewer rows or a smaller matrix"


def _planes(timing: Timing, layout: Layout, part: Part, number: Number) -> _Work:
    """A chip's planes at work: column tiles that it shares first, block by block."""
    planes = Planes(timing)
    epilogue = Epilogue(PARTIAL[number])
    sides = part.sides(len(layout.rows))
    order = [
        (r, b)
        for wanted in (False, True)
        for b in range(len(layout.rows))
        for r, (_, _, is_whole) in enumerate(part.runs)
        if is_whole is wanted
    ]
    for r, b in order:
        side, target, span = sides[r][b], layout.sums[r][b], part.runs[r][0]
        target.there[:] = [LATER] * target.count
        depth = range(span.first, span.first + span.count)
        rows = tuple(
            (Rows(tensor, 0, tensor.count),) for tensor in (layout.rows[b][k] for k in depth)
        )
        tiles, finish = tuple(layout.tiles[r][side]), epilogue.finish([target])
        planes.add(side, Item(side, number, tiles, (rows,), epilogue.alus, finish))
    planes.run()
    return _Work(layout, planes, sum(span.plane_cycles for span in planes.spans.values()))


def _added(
    fabric: Fabric,
    topology: Topology,
    works: Sequence[_Work],
    *,
    over: Split,
    used: Sequence[int],
    blocks: Sequence[range],
) -> list[Result]:
    """Puts products and what adds them up on the fabric; returns who has what in the end, of
    whole column tiles.
    """
    sums = works[0].layout.sums[0][0].number
    ports = Ports(
        fabric.timing,
        topology.chips,
        slices=works[0].layout.free,
        group=NUMBER_BYTES[sums],
        others=1,
    )
    for chip, work in zip(used, works, strict=True):
        fabric.begin(chip, work.planes.board, work.planes.instructions)
        ports.reserve(work.layout.sums_taken, chip)
    links = links_among(topology, used)
    adding = PartialSums(
        fabric, ports, links, node_chips=topology.system.node_chips, number=sums, relays=used
    )
    shared: list[tuple[int, int, int, dict[int, Tensor]]] = []
    found: list[Result] = []
    columns = fabric.timing.columns
    for column, places in enumerate(over.groups()):
        at = Span(column * columns, columns)
        runs = {
            p: next(n for n, r in enumerate(over.runs(p)) if r.column == column) for p in places
        }
        for b, block in enumerate(blocks):
            held = {used[p]: works[p].sums(run, b) for p, run in runs.items()}
            if len(held) == 1:
                ((chip, tensor),) = held.items()
                found.append(Result(chip, Span(block.start, len(block)), at, tensor, 0))
            else:
                there = max(max(tensor.there) for tensor in held.values())
                shared.append((there, column, b, held))
    for _, column, b, held in sorted(shared, key=lambda of: of[:3]):
        for share in adding.scatter(held):
            rows = Span(blocks[b].start + share.rows.first, share.rows.count)
            at = Span(column * columns, columns)
            found.append(Result(share.chip, rows, at, share.tensor, share.first))
    return found


def _clipped(results: Iterable[Result], width: int) -> Iterable[Result]:
    """With the columns that the product has."""
    for result in results:
        first = result.columns.first
        yield replace(result, columns=Span(first, min(result.columns.count, width - first)))


def _blocks(over: Split, works: Sequence[_Work], used: Sequence[int]) -> Iterable[Block]:
    """Weights `weights K N` and rows `rows BLOCK K`, K and N counting tiles of all the matrix."""
    for place, (chip, work) in enumerate(zip(used, works, strict=True)):
        for run, tiles in zip(over.runs(place), work.layout.tiles, strict=True):
            for held in tiles.values():
                for k, tile in enumerate(held, run.depth.first):
                    (t,) = tile.tensors
                    name = f"weights {k} {run.column}"
                    yield Block(chip, t.side, t.slices, t.address, t.count, name)
        for b, rows in enumerate(work.layout.rows):
            for k, t in rows.items():
                yield Block(chip, t.side, t.slices, t.address, t.count, f"rows {b} {k}")
