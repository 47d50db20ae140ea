"""All-reduce: every chip has partial sums, and every chip gets the sum of all of them.

In three levels (ISCA 2022, page 577): within the node, between nodes over the global links,
within the target node. Two schedules of it:

- `broadcast`, of the fewest hops. Every chip sends all that it has to the others of its node and
  adds what comes; the sum of the node goes over one link to each other node; what a chip got from
  other nodes it adds and sends to the others of its node. One hop in a node, three among nodes.
- `scatter`, for long vectors (`reduce_scatter.py`): every link of a chip carries another part.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, get_args

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.spread.gateways import chips_of, gateways, one_each
from atoll.lpu.compiler.spread.links import Arrival, Fabric
from atoll.lpu.compiler.spread.ports import Ports
from atoll.lpu.compiler.spread.reduce_scatter import scatter
from atoll.lpu.program import Block, Number, Program, Step
from atoll.lpu.timing import Timing
from atoll.lpu.topology import Topology

Variant = Literal["broadcast", "scatter"]
PARTIAL = "partial sums of chip {}"
"""The tensor that a chip holds before; shape (vectors, lanes) of the format."""


@dataclass(frozen=True, slots=True)
class AllReduce:
    """A schedule of an all-reduce: `inputs` and `outputs` lie at the same place on every chip.

    `hops` are the links that stand one behind the other; `links_used` is the share of all links'
    cycles, until the end, in which they carry vectors.
    """

    program: Program
    inputs: Tensor
    outputs: Tensor
    variant: Variant
    hops: int
    seconds: float
    links_used: float

    @property
    def cycles(self) -> int:
        """From the first read until the sum is in the memory of the last chip."""
        return self.program.cycles


def all_reduce(
    timing: Timing,
    topology: Topology,
    vectors: int,
    number: Number = "f16",
    *,
    variant: Variant | None = None,
) -> AllReduce:
    """The sum of `vectors` vectors of all chips, on all chips.

    Halves are added in f32 and rounded at each level, other numbers in their own format. Chips
    of different nodes add in different order, and may differ by that rounding.

    Args:
        timing: Of the chips.
        topology: A node, or nodes all joined to each other.
        vectors: Vectors of all lanes on every chip.
        number: f16, f32 or int32.
        variant: The schedule; without it the one whose links and hops take less.

    Raises:
        BadRequest: No vectors, no such format, several racks, or they do not fit into memory.
    """
    if vectors < 1:
        raise BadRequest(f"an all-reduce of {vectors} vectors", hint="at least one a chip")
    if number not in {"f16", "f32", "int32"}:
        raise BadRequest(f"an all-reduce of {number}", hint="f16, f32 or int32")
    variant = variant or faster(timing, topology, vectors, number)
    if variant not in get_args(Variant):
        raise BadRequest(f"no all-reduce {variant!r}", hint=", ".join(get_args(Variant)))
    fabric, ports = Fabric(timing, topology.chips), Ports(timing, topology.chips)
    if topology.system.node_chips > ports.count:
        size = topology.system.node_chips
        raise BadRequest(f"a node of {size} chips, and memory for {ports.count} that send at once")
    inputs = ports.everywhere("west", number, vectors)
    outputs = ports.everywhere("east", number, vectors)
    if variant == "broadcast":
        _broadcast(fabric, ports, topology, inputs, outputs)
    else:
        scatter(fabric, ports, topology, inputs, outputs)
    routine = fabric.routine(f"all-reduce of {vectors} vectors")
    everyone = tuple(range(topology.chips))
    blocks = tuple(
        Block(chip, t.side, t.slices, t.address, t.count, PARTIAL.format(chip))
        for chip, t in enumerate(inputs)
    )
    program = Program(topology.chips, (routine,), (Step(0, everyone, 0),), blocks)
    return AllReduce(
        program,
        inputs[0],
        outputs[0],
        variant,
        hops(topology, variant),
        program.cycles / timing.chip.hertz,
        fabric.link_cycles_used / (2 * len(topology.links) * program.cycles),
    )


def hops(topology: Topology, variant: Variant) -> int:
    """Links that a value crosses one behind the other."""
    once = min(1, topology.system.node_chips - 1)
    levels = once if topology.nodes == 1 else 1 + 2 * once
    return levels if variant == "broadcast" else 2 * levels


def faster(timing: Timing, topology: Topology, vectors: int, number: Number) -> Variant:
    """The schedule for which hops and the busiest links of each level take fewer cycles."""
    one = Fabric(timing, 0).period(number)
    size, nodes = topology.system.node_chips, topology.nodes

    def cycles(variant: Variant) -> float:
        levels = hops(topology, variant)
        if variant == "broadcast":
            return levels * timing.chip.hop_cycles() + vectors * one
        within = max(vectors / size, 1)
        return levels * timing.chip.hop_cycles() + 2 * one * (
            within + (within / nodes if nodes > 1 else 0)
        )

    return min(get_args(Variant), key=cycles)


def _broadcast(
    fabric: Fabric, ports: Ports, topology: Topology, inputs: list[Tensor], outputs: list[Tensor]
) -> None:
    number, vectors = inputs[0].number, inputs[0].count
    chosen = one_each(gateways(topology))
    period, size = fabric.period(number), topology.system.node_chips
    # Of a single node the first sum is the whole.
    alone = topology.nodes == 1
    sums = outputs if alone else ports.everywhere("west", number, vectors)
    _exchange(fabric, ports, topology, held=dict(enumerate(inputs)), own=inputs, sums=sums)
    if alone:
        return
    came: dict[int, list[Tensor]] = defaultdict(list)
    for link in chosen.values():
        target, stream = ports.arrivals(link.target, size + len(came[link.target]), number, vectors)
        came[link.target].append(target)
        arrival = Arrival(link.target, target, lane=link.lane, stream=stream)
        fabric.send(link.source, sums[link.source], [arrival], count=vectors)
    subtotals: dict[int, Tensor] = {}
    for chip, found in sorted(came.items()):
        subtotals[chip] = found[0]
        if len(found) > 1:
            subtotals[chip] = ports.take(chip, "east", number, vectors)
            terms = [(tensor, 0) for tensor in found]
            fabric.add(chip, terms, subtotals[chip], count=vectors, stride=period)
    _exchange(fabric, ports, topology, held=subtotals, own=sums, sums=outputs)


def _exchange(
    fabric: Fabric,
    ports: Ports,
    topology: Topology,
    *,
    held: dict[int, Tensor],
    own: list[Tensor],
    sums: list[Tensor],
) -> None:
    """What chips hold goes to the others of their nodes; each adds what all held, and its own
    (of the node, once) if that is something else.
    """
    vectors, number = sums[0].count, sums[0].number
    size = topology.system.node_chips
    period = fabric.period(number)
    terms: dict[int, dict[int, Tensor]] = defaultdict(dict)
    for chip, tensor in held.items():
        arrivals = []
        for other in chips_of(topology, topology.node(chip)):
            if other != chip:
                # Of those that send at once, each comes to a port of its own.
                target, stream = ports.arrivals(other, (chip - other) % size, number, vectors)
                arrivals.append(Arrival(other, target, stream=stream))
                terms[other][chip] = target
        terms[chip][chip] = tensor
        if arrivals:
            fabric.send(chip, tensor, arrivals, count=vectors)
    for chip, tensor in enumerate(own):
        found = [(t, 0) for _, t in sorted(terms[chip].items())]
        if held.get(chip) is not tensor:
            found.append((tensor, 0))
        fabric.add(chip, found, sums[chip], count=vectors, stride=period)
