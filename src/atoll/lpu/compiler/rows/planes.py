"""The planes of a chip at work: tiles of products one behind the other, each when it can.

Every side has a queue of items. A plane that is free takes the next one, loads its weights
while it still multiplies by those before, and multiplies; of the planes, the one that is
behind most goes first. Planes sum their tiles in different orders, so that each reads other
rows at the same time, and sums leave when the vector unit has ALUs for them: planes that
compete for it come to be apart by as much as they need.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.board import Board
from atoll.lpu.compiler.builder import Plane
from atoll.lpu.compiler.chain import LATER, Chain
from atoll.lpu.compiler.rows.emission import LANES, Emission, Finish, Pass
from atoll.lpu.compiler.rows.items import Key, Rows, Work, known
from atoll.lpu.compiler.rows.room import LOAD_STREAMS, Weights
from atoll.lpu.program import (
    NUMBER_BYTES,
    SIDES,
    Flow,
    Instruction,
    Number,
    Operand,
    Routine,
    Side,
)
from atoll.lpu.timing import Timing

PATIENCES = (20, 40, 80)
"""Cycles for which a plane rather waits than sums its tiles in another order: about as many as a
load takes, by which planes come to be apart. Which is best depends on all that follows, so
that a compiler tries them and keeps the shortest schedule.
"""


@dataclass(slots=True)
class Span:
    """When a part of a schedule is at work: phases of the first and after the last vector of its
    products, and cycles of single planes that they take.
    """

    first: int = LATER
    last: int = 0
    plane_cycles: int = 0


class Planes:
    """One routine of one chip in the making."""

    def __init__(self, timing: Timing, patience: int = PATIENCES[1]) -> None:
        self.timing = timing
        self.patience = patience
        self.board = Board()
        self.instructions: list[Instruction] = []
        self.planes = {(side, n): Plane() for side in SIDES for n in range(timing.planes)}
        self.spans: dict[str, Span] = {}
        self._active: dict[tuple[Key, ...], Work] = {}
        self._queues: dict[Side, deque[Work]] = {side: deque() for side in SIDES}
        self._passes: list[Pass] = []
        self._joint: set[int] = set()

    def lane(self, key: Key) -> int:
        """Which streams of emissions a plane has."""
        return SIDES.index(key[0]) * self.timing.planes + key[1]

    def add(self, side: Side, item: Work) -> None:
        """Work for the planes of a side, after all that was added before."""
        self._queues[side].append(item)

    def add_joint(self, item: Work) -> None:
        """Work for all planes together, after all that was added before."""
        self._joint.add(id(item))
        for queue in self._queues.values():
            queue.append(item)

    def add_pass(self, found: Pass) -> None:
        """Rows through the vector unit, as soon as they are there."""
        self._passes.append(found)

    def run(self) -> None:
        """Place everything that was added.

        Raises:
            BadRequest: Something waits for what nothing gives.
        """
        while self._active or self._passes or any(self._queues.values()):
            if not self._place_passes() and not self._step():
                raise BadRequest(
                    "products wait for each other", hint="add what gives before what takes"
                )

    def _place_passes(self) -> bool:
        for found in self._passes:
            if all(known(tensor) for tensor in found.inputs):
                self._passes.remove(found)
                self._pass(found)
                return True
        return False

    def _pass(self, found: Pass) -> None:
        def make(alu: int, lane: int) -> Chain:
            chain = Chain(self.timing)
            found.finish(Emission(chain, 0, found.count, found.stride, alu, lane))
            return chain

        bases = self._alus(found.alus)
        self.place_best((partial(make, a, n) for n in range(LANES) for a in bases), 0)

    def _step(self) -> bool:
        for keys, work in self._candidates():
            if not work.ready():
                continue
            if keys not in self._active:
                for side in {key[0] for key in keys}:
                    self._queues[side].popleft()
                self._active[keys] = work
            if work.step(self, keys):
                del self._active[keys]
            return True
        return False

    def _candidates(self) -> list[tuple[tuple[Key, ...], Work]]:
        """Planes and what they could do next, those that are behind most first."""
        found = list(self._active.items())
        busy = {key for keys in self._active for key in keys}
        heads = [queue[0] for queue in self._queues.values() if queue]
        for side, queue in self._queues.items():
            if not queue:
                continue
            idle = [(side, n) for n in range(self.timing.planes) if (side, n) not in busy]
            if id(queue[0]) in self._joint:
                if not busy and all(head is queue[0] for head in heads) and side == SIDES[0]:
                    found.append((tuple(self.planes), queue[0]))
            elif queue[0].number == "int8":
                found += [((key,), queue[0]) for key in idle]
            elif len(idle) == self.timing.planes:
                found.append((tuple(idle), queue[0]))
        return sorted(found, key=lambda pair: max(self.planes[key].used for key in pair[0]))

    def load(self, weights: Weights, keys: Sequence[Key]) -> None:
        """Weights into the buffer of a plane, or of a pair of them."""
        chain = self._load(weights, keys)
        begin = self.place(chain, max(self.planes[key].free for key in keys))
        for key in keys:
            self.planes[key].loaded = begin + weights.words

    def _load(self, weights: Weights, keys: Sequence[Key]) -> Chain:
        side, plane = keys[0]
        first = self.timing.streams - LOAD_STREAMS * (self.timing.planes - plane)
        into = Flow(side, "out", first, weights.streams)
        chain = Chain(self.timing)
        used = 0
        for tensor in weights.tensors:
            flow = into.part(used, len(tensor.slices))
            used += flow.width
            chain.read(
                tensor,
                first=weights.first,
                count=weights.words,
                step=weights.step,
                way="out",
                flow=flow,
            )
        chain.load(into, at=0, plane=plane, number=weights.number, count=weights.words)
        return chain

    def _feed(self, chain: Chain, rows: Rows, number: Number, key: Key) -> Flow:
        """Rows on outward streams of a plane's side: straight from slices of that side, or
        through the vector unit.
        """
        width, tensor, side = NUMBER_BYTES[number], rows.tensor, key[0]
        count, stride = rows.count, self.timing.row_cycles(number)
        into = Flow(side, "out", 0 if width > 1 else key[1], width)
        crosses = side != tensor.side
        flow = Flow(tensor.side, "in", 2 * self.lane(key), width) if crosses else into
        operand = chain.read(
            tensor, first=rows.first, count=count, stride=stride, way=flow.way, flow=flow
        )
        if crosses:
            chain.vector([operand], [], [(0, number, into)], at=0, count=count, stride=stride)
        return into

    def multiply(
        self,
        rows: Rows,
        keys: Sequence[Key],
        *,
        install: bool,
        row: int,
        clear: bool,
        block: int,
        emit: tuple[int, Finish] | None,
        part: str = "",
    ) -> None:
        """Rows times what a plane has, or a pair of them, or what was loaded."""
        plane = keys[0][1]
        number: Number = "int8" if len(keys) == 1 else "f16"
        stride, lane = self.timing.row_cycles(number), self.lane(keys[0])

        def make(alu: int) -> Chain:
            chain = Chain(self.timing)
            flow = self._feed(chain, rows, number, keys[0])
            burst = {"count": rows.count, "stride": stride}
            result = chain.multiply(
                flow,
                at=0,
                plane=plane,
                number=number,
                emit=emit is not None,
                install=install,
                clear=clear,
                row=row,
                **burst,
            )
            if emit:
                sums = Operand(result, "int32" if number == "int8" else "f32")
                at = self.timing.multiplied(0)
                emission = Emission(chain, at, rows.count, stride, alu, lane, block, sums)
                emit[1](emission)
            return chain

        ready = max(self.multiply_ready(key, install=install) for key in keys)
        bases = self._alus(emit[0]) if emit else [0]
        begin = self.place_best((partial(make, a) for a in bases), ready)
        self.multiplied(keys, begin, rows.count, install=install, part=part)

    def soonest(self, tiles: Sequence[tuple[Weights, Rows]], keys: Sequence[Key]) -> int:
        """Which of several tiles a plane can multiply first, once it has done what it does."""
        number: Number = "int8" if len(keys) == 1 else "f16"
        ready = max(self.timing.edge, *(self.planes[key].used for key in keys))
        free = max(self.timing.edge, *(self.planes[key].free for key in keys))
        found: list[int] = []
        for weights, rows in tiles:
            load, chain = self._load(weights, keys), Chain(self.timing)
            loaded = self.board.first(max(free, load.earliest), load.needs) + weights.words
            loaded += self.timing.assumed.install_cycles
            self._feed(chain, rows, number, keys[0])
            start = max(ready, loaded, chain.earliest)
            found.append(self.board.first(start, chain.needs))
            if found[-1] <= ready + self.patience:
                break
        return next(n for n, begin in enumerate(found) if begin <= min(found) + self.patience)

    def multiply_ready(self, key: Key, *, install: bool) -> int:
        """The phase from which a plane can multiply."""
        plane = self.planes[key]
        loaded = plane.loaded + self.timing.assumed.install_cycles if install else 0
        return max(loaded, plane.used)

    def multiplied(
        self, keys: Sequence[Key], at: int, rows: int, *, install: bool, part: str = ""
    ) -> None:
        """Note that planes multiply so many rows from phase `at` on."""
        number: Number = "int8" if len(keys) == 1 else "f16"
        for key in keys:
            plane = self.planes[key]
            plane.free = at + 1 if install else plane.free
            plane.used = at + rows * self.timing.row_cycles(number)
            span = self.spans.setdefault(part, Span())
            span.first, span.last = min(span.first, at), max(span.last, plane.used)
            span.plane_cycles += plane.used - at

    def place(self, chain: Chain, ready: int = 0) -> int:
        """Put a chain onto the board; returns the phase of its beginning."""
        # What flows in acts at a slice before it has its phase.
        begin = chain.place(self.board, max(ready, self.timing.edge))
        self.instructions += chain.instructions
        return begin

    def place_best(self, chains: Iterable[Callable[[], Chain]], ready: int) -> int:
        """Put one of several chains onto the board, that which can begin first."""
        best: tuple[int, Chain] | None = None
        for make in chains:
            chain = make()
            start = max(ready, self.timing.edge, chain.earliest)
            begin = self.board.first(start, chain.needs)
            if best is None or begin < best[0]:
                best = begin, chain
            if begin == start:
                break
        assert best is not None
        return self.place(best[1], best[0])

    def _alus(self, number: int) -> list[int]:
        """First ALUs that a burst of so many steps could have."""
        return list(range(0, self.timing.alus - number + 1, max(number, 1))) if number else [0]

    def routine(self, name: str) -> Routine:
        """What was built; its cycles hold everything that the chip does in it."""
        late = max(burst.end for burst in self.instructions) + self.timing.edge
        late += self.timing.link_cycles + self.timing.assumed.alu_cycles * self.timing.alus
        return Routine(name, (tuple(sorted(self.instructions, key=lambda i: i.at)),), late)
