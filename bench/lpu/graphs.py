"""Random graphs, decoders and all-reduces, and those that are published: compiled, and checked.

The checker shares nothing with the compiler but the timing of the chip. Of the operator graphs
some run on the simulated chip, against NumPy.

- `conflicts`: of all schedules together.
- `compiled`: random ones by kind; `refused`: those that do not fit, or are told not to be covered.
- `simulated`, `simulated_error`: graphs run, and their worst error, of a value's greatest.
- `standard`: cycles of each schedule that is always the same.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tests.support.lpu_graphs import computed, expected

from atoll.domain.errors import BadRequest
from atoll.forecast.models import shipped_models
from atoll.lpu.check.conflicts import Conflict
from atoll.lpu.check.programs import check
from atoll.lpu.compiler.chips.place import Wanted, place_decoder
from atoll.lpu.compiler.graphs.operators import compile_graph
from atoll.lpu.compiler.memory import Stored
from atoll.lpu.compiler.spread.all_reduce import Variant, all_reduce
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Number, Program
from atoll.lpu.sizes import topology_for
from atoll.lpu.timing import Timing, shipped_assumed
from atoll.lpu.topology import Topology, build, shipped_systems
from bench.local import talk
from bench.lpu.random_decoders import decoder_conflicts, random_decoder
from bench.lpu.random_graphs import random_graph
from bench.lpu.random_rows import bert_large, random_encoder, random_product

GRAPHS = 1000
EVERY = 50
"""Of so many seeds the first are of these kinds, the rest of graphs."""
KINDS = (
    *("all-reduce", "encoder", "encoder"),
    *6 * ("product",),
    *7 * ("decoder",),
)
SIMULATED_EVERY = 6
REPORTED = 5
"""Conflicts that are told, of each schedule."""
Schedule = tuple[Program, Topology | None]


def timing() -> Timing:
    """Of the TSP."""
    return Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


@dataclass
class Tally:
    """What came of schedules so far."""

    compiled: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    conflicts: int = 0
    simulated: int = 0
    simulated_error: float = 0.0
    standard: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, conflicts: list[Conflict]) -> None:
        """Count conflicts, and tell some."""
        self.conflicts += len(conflicts)
        for conflict in conflicts[:REPORTED]:
            talk(f"{name}: {conflict}")


def run(graphs: int = GRAPHS, first: int = 0) -> dict[str, Any]:
    """So many random schedules, from a seed on, and all standard ones."""
    begun = time.perf_counter()
    tally = Tally()
    on = timing()
    seed = first
    while tally.compiled.total() < graphs:
        one(seed, tally, on)
        seed += 1
        if seed % 100 == 0:
            talk(f"{tally.compiled.total()} of {graphs} graphs, {tally.conflicts} conflicts")
    random_s = time.perf_counter() - begun
    for name, program, topology in standard(on):
        tally.add(name, check(program, on, topology))
        tally.standard[name] = program.cycles
        talk(f"{name}: {program.cycles} cycles")
    return {
        "graphs": tally.compiled.total(),
        **{name: getattr(tally, name) for name in Tally.__dataclass_fields__},
        "simulated_error": round(tally.simulated_error, 5),
        "graphs_s": round(random_s, 1),
        "standard_s": round(time.perf_counter() - begun - random_s, 1),
    }


def one(seed: int, tally: Tally, on: Timing) -> None:
    """A random schedule of a seed."""
    kind = (*KINDS, *["graph"] * EVERY)[seed % EVERY]
    try:
        if kind == "graph":
            conflicts = graph(seed, tally, on)
        elif kind == "decoder":
            conflicts = decoder_conflicts(random_decoder(seed).compiled(on), on)
        elif kind == "product":
            conflicts = check(random_product(seed, on), on)
        elif kind == "encoder":
            conflicts = check(random_encoder(seed, on), on)
        else:
            program, topology = random_all_reduce(seed, on)
            conflicts = check(program, on, topology)
    except BadRequest as refusal:
        tally.refused += 1
        talk(f"seed {seed}, {kind}: {refusal}")
        return
    tally.compiled[kind] += 1
    tally.add(f"seed {seed}, {kind}", conflicts)


def graph(seed: int, tally: Tally, on: Timing) -> list[Conflict]:
    """A graph of operators, and what it computes; returns its conflicts."""
    made = random_graph(seed)
    compiled = compile_graph(on, made.graph)
    conflicts = check(compiled.program, on)
    if seed % SIMULATED_EVERY:
        return conflicts
    due = expected(made, compiled)
    for name, found in computed(made, compiled, on).items():
        greatest = max(float(np.abs(due[name]).max()), 1e-6)
        error = float(np.abs(found - due[name]).max()) / greatest
        if not error <= tally.simulated_error:
            tally.simulated_error = error
            talk(f"seed {seed}, {name}: an error of {error:.1e}")
    tally.simulated += 1
    return conflicts


def random_all_reduce(seed: int, on: Timing) -> Schedule:
    """Over one to four nodes."""
    draw = random.Random(seed)
    systems = shipped_systems()
    topology = build(systems.find("Dragonfly of 264"), nodes=draw.randint(1, 4))
    number: Number = draw.choice(["f16", "f32", "int32"])
    variants: list[Variant | None] = [None, "broadcast", "scatter"]
    made = all_reduce(on, topology, draw.randint(1, 60), number, variant=draw.choice(variants))
    return made.program, topology


def standard(on: Timing) -> Iterator[tuple[str, Program, Topology | None]]:
    """Schedules that are always the same."""
    for name, make in STANDARD.items():
        program, topology = make(on)
        yield name, program, topology


def _decoder(
    model: str, chips: int, stored: Stored | None, width: int | None = None
) -> Callable[[Timing], Schedule]:
    def make(on: Timing) -> Schedule:
        topology = topology_for(chips)
        shape = shipped_models().shapes.find(model)
        wanted = Wanted(shape=shape, chips=chips, context=4096, stored=stored, width=width)
        return place_decoder(on, topology, wanted).program, topology

    return make


def _all_reduce(system: str, nodes: int, vectors: int) -> Callable[[Timing], Schedule]:
    def make(on: Timing) -> Schedule:
        topology = build(shipped_systems().find(system), nodes=nodes)
        return all_reduce(on, topology, vectors).program, topology

    return make


STANDARD: dict[str, Callable[[Timing], Schedule]] = {
    "SmolLM2-135M f16": _decoder("SmolLM2-135M", 8, "f16"),
    "SmolLM2-135M int8": _decoder("SmolLM2-135M", 8, "int8"),
    "Llama-3.1-8B in groups of 4": _decoder("Llama-3.1-8B", 72, "int8", 4),
    "Llama-2-70B on 576": _decoder("Llama-2-70B", 576, None),
    "BERT-Large on 4": lambda on: (bert_large(on), build(shipped_systems().find("GroqNode"))),
    "all-reduce over 8": _all_reduce("GroqNode", 1, 64),
    "all-reduce over 256": _all_reduce("Dragonfly of 264", 32, 64),
}
"""By name; each gives a program and the system it runs on."""
