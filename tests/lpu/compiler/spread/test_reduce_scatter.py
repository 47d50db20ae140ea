"""Who finishes which vectors: a golden table, and that they tile all vectors. That sums are right
is in test_all_reduce.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.lpu.compiler.spread.reduce_scatter import Shares, Span
from atoll.lpu.topology import Topology, build, shipped_systems

SYSTEMS = shipped_systems()
DRAGONFLY = SYSTEMS.find("Dragonfly of 264")

GOLDEN = """\
50 vectors, 3 nodes, 2 links between two
node 0 link 0: 0+9 -> 0+2 2+1 3+1 4+1 5+1 6+1 7+1 8+1
node 0 link 1: 9+8 -> 9+1 10+1 11+1 12+1 13+1 14+1 15+1 16+1
node 1 link 0: 17+9 -> 17+2 19+1 20+1 21+1 22+1 23+1 24+1 25+1
node 1 link 1: 26+8 -> 26+1 27+1 28+1 29+1 30+1 31+1 32+1 33+1
node 2 link 0: 34+8 -> 34+1 35+1 36+1 37+1 38+1 39+1 40+1 41+1
node 2 link 1: 42+8 -> 42+1 43+1 44+1 45+1 46+1 47+1 48+1 49+1
"""


def written(topology: Topology, vectors: int, links: int) -> str:
    shares = Shares.of(topology, vectors, links)
    lines = [f"{vectors} vectors, {topology.nodes} nodes, {links} links between two"]
    for node, of in enumerate(shares.shares):
        for link, share in enumerate(of):
            pieces = " ".join(f"{p.first}+{p.count}" for p in shares.pieces[node][link])
            lines.append(f"node {node} link {link}: {share.first}+{share.count} -> {pieces}")
    return "\n".join(lines) + "\n"


def test_split_over_chips() -> None:
    assert written(build(DRAGONFLY, nodes=3), 50, 2) == GOLDEN


@given(first=st.integers(0, 99), count=st.integers(0, 999), parts=st.integers(1, 40))
def test_parts_tile_a_span(first: int, count: int, parts: int) -> None:
    found = Span(first, count).split(parts)
    numbers = [n for part in found for n in range(part.first, part.first + part.count)]
    assert numbers == list(range(first, first + count))
    assert max(p.count for p in found) - min(p.count for p in found) <= 1


@pytest.mark.parametrize("vectors", [1, 7, 256, 1000])
def test_pieces_tile_all_vectors(vectors: int) -> None:
    topology = build(DRAGONFLY, nodes=32)
    shares = Shares.of(topology, vectors, 1)
    spans = [p for of in shares.pieces for link in of for p in link]
    assert len(spans) == topology.chips
    assert sorted(n for p in spans for n in range(p.first, p.first + p.count)) == list(
        range(vectors)
    )
