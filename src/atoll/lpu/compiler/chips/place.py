"""A whole decoder on many chips: groups of chips, parts on groups, hand-overs, memory.

Chips of a group share each layer that lies there; how many is chosen, and how weights are stored
unless told, so that a token is fastest among what fits. One token is on its way at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from atoll.domain.errors import BadRequest
from atoll.forecast.shapes import ModelShape
from atoll.lpu.compiler.chips.hand_over import Transfer, Way, find_ways, hand_over, spread, transfer
from atoll.lpu.compiler.chips.layout import Origin, Part, lay_out, parts_of
from atoll.lpu.compiler.chips.stages import Run, assign
from atoll.lpu.compiler.chips.widths import Least, least, widths
from atoll.lpu.compiler.decoder.decode import Compiled, DecodeCompiler, split
from atoll.lpu.compiler.memory import Stored
from atoll.lpu.program import Program, Routine, Step
from atoll.lpu.timing import Timing
from atoll.lpu.topology import Topology

HOST_S = 10e-6
HOST_BYTES_S = 24e9
"""A transfer between host and chips: 10 us and 24 GB/s, as GroqFlow estimates it (repo
groq/groqflow groqflow/groqmodel/groqmodel.py at 1dd696b)."""

Heard = Callable[[str], None]


class DoesNotFit(BadRequest):
    """A model that so many chips cannot hold; `chips` would do."""

    def __init__(self, problem: str, *, chips: int) -> None:
        super().__init__(problem, hint=f"{chips} chips would do")
        self.chips = chips


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be compiled.

    Attributes:
        shape: The model.
        chips: It may lie on so many chips, the first of the system.
        context: Positions of its caches.
        stored: How weights are stored; None: f16 if they fit, else int8.
        width: Chips of a group; None: chosen.
        half: Rotation turns the two halves of a head, not neighbours.
        eps: Of its norms.
    """

    shape: ModelShape
    chips: int
    context: int
    stored: Stored | None = None
    width: int | None = None
    half: bool = False
    eps: float = 1e-5


@dataclass(frozen=True)
class Placed:
    """A program for one token of a decoder, and where everything in it comes from.

    Attributes:
        origins: Of what `Block.tensor` names.
        stages: Runs of parts on groups, in the order of a token.
        groups: Chips of each group, in the order of the members.
        hand_overs: Cycles of each, between stages.
    """

    wanted: Wanted
    timing: Timing
    topology: Topology
    compiled: Compiled
    program: Program
    origins: dict[str, Origin]
    parts: tuple[Part, ...]
    stages: tuple[Run, ...]
    groups: tuple[tuple[int, ...], ...]
    hand_overs: tuple[int, ...]

    @property
    def width(self) -> int:
        """Chips that share a layer."""
        return self.compiled.split.chips

    @property
    def chips_used(self) -> int:
        """Chips that hold parts of the model."""
        return self.width * len(self.groups)

    @property
    def cycles(self) -> int:
        """Cycles of a token."""
        return self.program.cycles

    @property
    def layer_cycles(self) -> int:
        """Cycles of a layer, without hand-overs."""
        routines = self.compiled.routines
        return routines["attention"].cycles + routines["feed-forward"].cycles

    @property
    def token_s(self) -> float:
        """Seconds of a token on the chips, from embedding to logits."""
        return self.cycles / self.timing.chip.hertz

    @property
    def host_s(self) -> float:
        """Seconds in which the host sends a row of the embedding, and gets the logits."""
        shape = self.wanted.shape
        return 2 * HOST_S + 4 * (shape.hidden + shape.vocab) / HOST_BYTES_S

    @cached_property
    def words_used(self) -> tuple[int, ...]:
        """Words of a slice that each group's parts take, with what is taken once."""
        held = [self.compiled.shared_words] * len(self.groups)
        for run in self.stages:
            for part in self.parts[run.first : run.end]:
                held[run.group] += self.compiled.words[part.routine]
        return tuple(held)


def place_decoder(
    timing: Timing, topology: Topology, wanted: Wanted, heard: Heard | None = None
) -> Placed:
    """The fastest program for a token of a decoder that fits.

    Args:
        timing: Of the system's chips.
        topology: The system.
        wanted: Model, chips, context.
        heard: Is told what is being done.

    Raises:
        DoesNotFit: There are too few chips.
        BadRequest: The model is not covered, or does not come apart as told.
    """
    if not 1 <= wanted.chips <= topology.chips:
        raise BadRequest(
            f"{wanted.chips} chips: {topology.system.name} has {topology.chips} here",
            hint=f"1 to {topology.chips} chips, or a larger system",
        )
    tell = heard or (lambda _: None)
    kinds: tuple[Stored, ...] = (wanted.stored,) if wanted.stored else ("f16", "int8")
    needs: list[int] = []
    problems: list[BadRequest] = []
    for stored in kinds:
        bounds = _bounds(timing, topology, wanted, stored)
        last = stored == kinds[-1]
        best: Placed | None = None
        for n, bound in enumerate(bounds):
            groups = _groups(topology, wanted.chips, bound.width)
            fits = bound.words <= groups * timing.words
            # The last way is compiled in any case, to say how many chips would do.
            if not (fits or (last and n == 0)) or (best and bound.cycles >= best.cycles):
                continue
            tell(f"compiling for groups of {bound.width}, weights of {stored}")
            parts = split(
                *(wanted.shape, bound.width, wanted.context, timing.lanes),
                half=wanted.half,
                eps=wanted.eps,
            )
            try:
                compiled = DecodeCompiler(timing, parts, stored).compile()
            except BadRequest as problem:
                problems.append(problem)
                continue
            found = _placed(timing, topology, wanted, compiled)
            if isinstance(found, int):
                needs.append(found)
            elif best is None or found.cycles < best.cycles:
                best = found
        if best:
            return best
    raise _does_not_fit(wanted, needs, problems)


def _bounds(timing: Timing, topology: Topology, wanted: Wanted, stored: Stored) -> list[Least]:
    """Of all widths that may be, the quickest first."""
    room = min(topology.system.node_chips, wanted.chips)
    chosen = widths(wanted.shape, room)
    if wanted.width is not None:
        chosen = [k for k in chosen if k == wanted.width]
    if not chosen:
        raise BadRequest(
            f"{wanted.shape.kv_heads} heads of keys do not come apart on {wanted.width} of "
            f"{room} chips",
            hint="a divisor of the heads of keys, within a node",
        )
    found = [least(wanted.shape, k, stored, context=wanted.context, timing=timing) for k in chosen]
    return sorted(found, key=lambda bound: bound.cycles)


def _does_not_fit(wanted: Wanted, needs: list[int], problems: list[BadRequest]) -> BadRequest:
    if needs:
        return DoesNotFit(
            f"{wanted.shape.name} does not fit on {wanted.chips} chips with a context of "
            f"{wanted.context}",
            chips=min(needs),
        )
    return BadRequest(
        f"{wanted.shape.name}: {problems[-1].problem}",
        hint="chips that share a layer are those of a node: fewer positions, or weights of int8",
    )


def _groups(topology: Topology, chips: int, width: int) -> int:
    """Groups on the first chips of a system, none in two nodes."""
    size = topology.system.node_chips
    return chips // size * (size // width) + chips % size // width


def _members(topology: Topology, group: int, width: int) -> tuple[int, ...]:
    """Chips of a group."""
    size = topology.system.node_chips
    node, n = divmod(group, size // width)
    first = node * size + n * width
    return tuple(range(first, first + width))


def _placed(timing: Timing, topology: Topology, wanted: Wanted, compiled: Compiled) -> Placed | int:
    """The program of one split; or how many chips would do, if there are too few."""
    width = compiled.split.chips
    parts = parts_of(wanted.shape)
    words = [compiled.words[part.routine] for part in parts]
    room = timing.words - compiled.shared_words
    runs = assign(words, room, _groups(topology, wanted.chips, width))
    if isinstance(runs, int):
        return _members(topology, runs - 1, width)[-1] + 1
    groups = tuple(_members(topology, g, width) for g in range(max(run.group for run in runs) + 1))
    schedule = _Schedule(timing, topology, compiled)
    for n, run in enumerate(runs):
        if n:
            schedule.move(groups[runs[n - 1].group], groups[run.group])
        for part, base in zip(parts[run.first : run.end], run.bases, strict=True):
            schedule.step(part, groups[run.group], base)
    blocks, origins = lay_out(compiled, parts, runs, groups)
    program = Program(
        topology.chips, tuple(schedule.routines), tuple(schedule.steps), tuple(blocks)
    )
    return Placed(
        wanted=wanted,
        timing=timing,
        topology=topology,
        compiled=compiled,
        program=program,
        origins=origins,
        parts=tuple(parts),
        stages=tuple(runs),
        groups=groups,
        hand_overs=tuple(schedule.hand_overs),
    )


class _Schedule:
    """Steps one after the other, and the routines that they run."""

    def __init__(self, timing: Timing, topology: Topology, compiled: Compiled) -> None:
        self.timing = timing
        self.topology = topology
        self.hidden = compiled.hidden
        self.routines: list[Routine] = list(compiled.routines.values())
        self.steps: list[Step] = []
        self.hand_overs: list[int] = []
        self._numbers = {name: n for n, name in enumerate(compiled.routines)}
        self._moves: dict[Transfer, int] = {}
        self._at = 0

    def step(self, part: Part, chips: Sequence[int], base: int) -> None:
        """A part of the model on its group."""
        self._add(Step(self._numbers[part.routine], tuple(chips), self._at, base, part.layer))

    def move(self, sources: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """The hidden vector to another group."""
        ways = self._ways(sources, targets)
        moved, chips = transfer(ways, sources, targets)
        if moved not in self._moves:
            self._moves[moved] = len(self.routines)
            name = f"hand-over {len(self._moves)}"
            self.routines.append(hand_over(name, moved, self.hidden, self.timing))
        number = self._moves[moved]
        self.hand_overs.append(self.routines[number].cycles)
        self._add(Step(number, chips, self._at))

    def _ways(self, sources: Sequence[int], targets: Sequence[int]) -> list[Way]:
        """Ways that are used, so that chips that nothing passes take no part."""
        ways = find_ways(self.topology, sources, targets)
        vectors = self.hidden.count * len(self.hidden.slices)
        return [ways[w] for w in sorted(set(spread(ways, vectors, self.timing)))]

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self._at += self.routines[step.routine].cycles
