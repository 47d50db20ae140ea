"""The hidden vector's way from the chips of one group to those of the next.

Every chip of a group has the whole vector, and every chip of the next needs it, in its own order
(`sums.order`). So its streams are spread over ways: each leads from a chip that has them, over
links of which no other way uses one, to a chip of the target's node, and from there to all chips
of the target at once. Values go as they are, f32, byte by byte.

Chips on the way keep what they pass on where their own hidden vector would be: a token is at one
place at a time, so that nobody else needs it there.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.chain import LATER, Tensor
from atoll.lpu.compiler.decoder.sums import order
from atoll.lpu.compiler.spread.links import Arrival, Fabric
from atoll.lpu.program import Routine
from atoll.lpu.timing import Timing
from atoll.lpu.topology import Topology

WAYS_MAX = 16


@dataclass(frozen=True, slots=True)
class Way:
    """Chips one behind the other; `lanes[n]` tells links from chip n to chip n + 1 apart.

    The last is one of the targets, or joined to all of them.
    """

    chips: tuple[int, ...]
    lanes: tuple[int, ...] = ()

    @property
    def hops(self) -> int:
        """Hops until the targets have what comes by it; the last is one to many."""
        return len(self.chips)


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a hand-over's routine depends on: `ways` name chips by their place in `chips`, which
    are the sources, the targets, then those on the way.
    """

    members: int
    ways: tuple[Way, ...]
    chips: int


def find_ways(
    topology: Topology, sources: Sequence[int], targets: Sequence[int], enough: int = WAYS_MAX
) -> list[Way]:
    """Ways that share no link, those with the fewest hops first.

    Args:
        topology: The system.
        sources: Chips that have the vector.
        targets: Chips of one node, none of them a source, that are to get it.
        enough: Ways at most.

    Raises:
        BadRequest: No way leads there.
    """
    node = topology.node(targets[0])
    if topology.node(sources[0]) == node:
        size = topology.system.node_chips
        idle = [c for c in range(node * size, (node + 1) * size) if c not in (*sources, *targets)]
        ways = [Way((chip,)) for chip in sources]
        ways += [Way((sources[n % len(sources)], c), (0,)) for n, c in enumerate(idle)]
        return ways[:enough]
    used: Counter[tuple[int, int]] = Counter()
    found: list[Way] = []
    while len(found) < enough and (chips := _shortest(topology, sources, node, used)):
        pairs = list(pairwise(chips))
        found.append(Way(chips, tuple(used[pair] for pair in pairs)))
        used.update(pairs)
    if not found:
        raise BadRequest(f"no links lead from chip {sources[0]} to chip {targets[0]}")
    return found


def _shortest(
    topology: Topology, sources: Sequence[int], node: int, used: Counter[tuple[int, int]]
) -> tuple[int, ...]:
    """The shortest way to a node over links that are left; empty if there is none."""
    came = {chip: chip for chip in sources}
    queue = deque(sources)
    while queue:
        chip = queue.popleft()
        if topology.node(chip) == node:
            way = [chip]
            while came[way[-1]] != way[-1]:
                way.append(came[way[-1]])
            return tuple(reversed(way))
        for near in topology.neighbours(chip):
            if near not in came and used[chip, near] < topology.parallel(chip, near):
                came[near] = chip
                queue.append(near)
    return ()


def spread(ways: Sequence[Way], vectors: int, timing: Timing) -> list[int]:
    """Which way each of so many vectors takes, so that it is there first; hops count."""
    hop = timing.received(0)
    queued = [0] * len(ways)
    chosen = []
    for _ in range(vectors):
        best = min(range(len(ways)), key=lambda w: (ways[w].hops * hop + queued[w], w))
        queued[best] += timing.link_cycles
        chosen.append(best)
    return chosen


def transfer(
    ways: Sequence[Way], sources: Sequence[int], targets: Sequence[int]
) -> tuple[Transfer, tuple[int, ...]]:
    """The ways with chips by their place, and the chips: alike for all that are wired alike."""
    on_way = {chip for way in ways for chip in way.chips} - {*sources, *targets}
    chips = (*sources, *targets, *sorted(on_way))
    place = {chip: n for n, chip in enumerate(chips)}
    placed = tuple(Way(tuple(place[c] for c in way.chips), way.lanes) for way in ways)
    return Transfer(len(sources), placed, len(chips)), chips


def hand_over(name: str, moved: Transfer, hidden: Tensor, timing: Timing) -> Routine:
    """The routine in which the targets get the vector.

    Args:
        name: Of the routine.
        moved: Its chips and ways.
        hidden: f32, where each chip has the vector; shape (blocks, 320) in the chip's order.
        timing: Of the chips.
    """
    k = moved.members
    fabric = Fabric(timing, moved.chips)
    places = [
        order(hidden.count, k, chip % k) if chip < 2 * k else list(range(hidden.count))
        for chip in range(moved.chips)
    ]
    at = [{block: place for place, block in enumerate(on)} for on in places]
    width = len(hidden.slices)
    kept = [
        [_byte(hidden, i, there=0 if chip < k else LATER) for i in range(width)]
        for chip in range(moved.chips)
    ]
    chosen = spread(moved.ways, hidden.count * width, timing)
    for n, w in enumerate(chosen):
        way = moved.ways[w]
        block, i = divmod(n, width)
        streams = timing.assumed.link_streams
        for hop, lane in enumerate(way.lanes):
            one, other = way.chips[hop : hop + 2]
            arrival = Arrival(other, kept[other][i], at[other][block], lane, i % streams)
            fabric.send(one, kept[one][i], [arrival], first=at[one][block], stream=i % streams)
        last = way.chips[-1]
        arrivals = [
            Arrival(chip, kept[chip][i], at[chip][block], stream=i % streams)
            for chip in range(k, 2 * k)
            if chip != last
        ]
        if arrivals:
            fabric.send(last, kept[last][i], arrivals, first=at[last][block], stream=i % streams)
    return fabric.routine(name)


def _byte(tensor: Tensor, i: int, *, there: int) -> Tensor:
    """A byte of a tensor's numbers, of which each vector is there from a cycle on."""
    slices = tensor.slices[i : i + 1]
    return Tensor("int8", tensor.side, slices, tensor.address, tensor.count, [there] * tensor.count)
