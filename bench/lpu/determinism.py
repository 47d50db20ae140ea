"""Whether the same input gives the same schedule: two processes whose hashes differ compile it all.

- `deterministic`: 1 if schedules, laid-out bytes, results and cycles are the same in both, else 0.
- `deterministic_digests`: of how many things each process gives a digest.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.lpu_graphs import computed
from tests.support.reference_decoder import random_weights

from atoll.forecast.shapes import ModelShape
from atoll.lpu.compiler.chips.layout import digest
from atoll.lpu.compiler.chips.place import Wanted, place_decoder
from atoll.lpu.compiler.graphs.operators import compile_graph
from atoll.lpu.graph_laying import GraphLaying
from atoll.lpu.laying import Laying, Rotation
from atoll.lpu.program import Program
from atoll.lpu.timing import Timing
from atoll.lpu.topology import build, shipped_systems
from bench.local import talk
from bench.lpu.graphs import random_all_reduce, standard, timing
from bench.lpu.random_graphs import random_graph
from bench.lpu.random_rows import random_encoder, random_product

ROOT = Path(__file__).parents[2]
SEEDS = range(40)
SMALL = ModelShape("Small", 3, 700, 8, 4, 32, 1500, 150)


def run(*, whole: bool = True) -> dict[str, Any]:
    """Both processes, and whether they agree.

    Args:
        whole: With all standard schedules; otherwise with a few random ones.
    """
    one, other = (_lines(seed, whole=whole) for seed in (1, 2))
    for first, second in zip(one, other, strict=False):
        if first != second:
            talk(f"not the same: {first} and {second}")
    return {"deterministic": int(bool(one) and one == other), "deterministic_digests": len(one)}


def _lines(hash_seed: int, *, whole: bool) -> list[str]:
    """What a process of its own tells."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": path}
    command = [sys.executable, "-m", "bench.lpu.determinism", *(["whole"] if whole else [])]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.splitlines()


def digests(*, whole: bool) -> Iterator[str]:
    """A line for each schedule, and for what is laid into memory before it."""
    on = timing()
    seeds = SEEDS if whole else SEEDS[:3]
    for seed in seeds:
        yield from _graph(seed, on)
    for seed in seeds[:3]:
        yield _line(f"product {seed}", random_product(seed, on))
    yield from _decoder(on)
    if whole:
        yield _line("encoder", random_encoder(1, on))
        yield _line("all-reduce", random_all_reduce(1, on)[0])
        for name, program, _ in standard(on):
            yield _line(name, program)


def _line(name: str, program: Program, *data: bytes) -> str:
    laid = hashlib.sha256(b"".join(data)).hexdigest() if data else "-"
    return f"{name}: {program.cycles} {digest(program)} {laid}"


def _graph(seed: int, on: Timing) -> Iterator[str]:
    made = random_graph(seed)
    compiled = compile_graph(on, made.graph)
    laying = GraphLaying(compiled, made.weights, lanes=on.lanes)
    words = [laying.words(piece).tobytes() for piece in compiled.pieces]
    if seed % 10 == 0:
        words += [value.tobytes() for value in computed(made, compiled, on).values()]
    yield _line(f"graph {seed}", compiled.program, *words)


def _decoder(on: Timing) -> Iterator[str]:
    """A small one on the chips of a node, with all that lies in memory."""
    topology = build(shipped_systems().find("GroqNode"))
    layers, head = random_weights(SMALL, seed=3)
    for stored in ("f16", "int8"):
        wanted = Wanted(shape=SMALL, chips=topology.chips, context=500, stored=stored, width=4)
        placed = place_decoder(on, topology, wanted)
        rotation = Rotation(SMALL.head_dim, 10_000.0)
        laying = Laying(placed.compiled, rotation, layers.__getitem__, lambda: head)
        words = [
            np.ascontiguousarray(laying.words(piece, o.routine, o.layer, o.member)).tobytes()
            for o in placed.origins.values()
            for piece in o.pieces
        ]
        yield _line(f"decoder of {stored}", placed.program, *words)


if __name__ == "__main__":
    for line in digests(whole="whole" in sys.argv[1:]):
        print(line)
