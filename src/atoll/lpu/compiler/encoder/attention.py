"""Attention of an encoder: int8 products around a softmax in f16, nothing of it transposed in
memory.

Which operand is rows and which is weights decides how a result lies, so that each next product
finds its operands as it needs them; P is softmax's numerator, positions are rows:

    Q   = x Wq            rows: positions, lanes: numbers of some heads
    K   = x Wk            the same; a head's own lanes are kept, the others zero, and the rows
                          are loaded as weights: columns are positions
    V^T = Wv^T x^T        rows of Wv^T times rows of x as weights: lanes are positions
    P   = exp(Q K^T)      lanes are positions of keys; its rows are loaded as weights
    O^T = [1; V^T] P^T    65 rows (1 and the head's numbers) instead of 384: a third of what P V
                          takes, and its first row is the softmax's denominator, lane by lane
    O   = I O^T           a product with the identity turns it, exactly, as it is int8

Softmax takes no maximum off: exp(s) is kept as f16, which holds e^-9.7 with all its digits and
e^-16.6 with one, and s is clamped at 11, e^11 being the most that f16 has. So a row is right
as long as its largest score lies between -9 and 11, a range that static scales have to keep
anyhow; sums are f32. The maximum of lanes of a row would need nine turns through a switch for
each of 6,144 rows, 27,000 cycles.

A bias of K adds the same to all scores of a row, so softmax does not see it; one of V adds
itself, as each row of P sums to 1, and belongs into the bias of the projection after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atoll.lpu.compiler.chain import LATER, Tensor
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.compiler.rows.dense import Epilogue, matrix
from atoll.lpu.compiler.rows.emission import Emission, Finish, Pass, Target
from atoll.lpu.compiler.rows.items import Item, Rows
from atoll.lpu.compiler.rows.planes import Planes
from atoll.lpu.compiler.rows.room import Room, Weights
from atoll.lpu.program import SIDES, Alu, Number, Side

SCORE_MAX = 11.0
AT_ONCE = 16
"""Heads whose scores come before the first of their outputs."""
TINY = 1e-6
"""Less than any sum of numerators that are right; keeps empty lanes from becoming infinite."""


@dataclass(frozen=True, slots=True)
class Factors:
    """Static factors: of sums of Q to int8, of scores to their true size, of sums of V to theirs,
    of outputs to int8. That of K stands in tables: `key_factor` in a head's lanes, else 0.
    """

    query: float
    score: float
    value: float
    output: float


@dataclass(slots=True)
class Attention:
    """Adds one layer's attention to planes; `x[block][k]` is int8, on the side of its block."""

    planes: Planes
    room: Room
    shape: Shape
    factors: Factors
    x: Sequence[Sequence[Tensor]]

    def add(self) -> list[list[Tensor]]:
        """Returns outputs, int8, `o[block][k]`: lane g n + i of tile k is number n of its head i,
        of g heads.
        """
        q, k = self._queries_keys()
        v = self._values()
        turned: dict[tuple[int, int], Tensor] = {}
        for first in range(0, self.shape.heads, AT_ONCE):
            heads = range(first, min(first + AT_ONCE, self.shape.heads))
            p = {h: self._scores(h, q[SIDES[h % 2]], k[h]) for h in heads}
            for h in heads:
                outputs = self._outputs(h, p[h], v[SIDES[h % 2]])
                turned |= {(h, b): out for b, out in enumerate(outputs)}
        return self._turn(turned)

    def _rows(self, b: int) -> tuple[tuple[Rows, ...], ...]:
        return tuple((Rows(tensor, 0, tensor.count),) for tensor in self.x[b])

    def _queries_keys(self) -> tuple[dict[Side, list[list[Tensor]]], list[list[Tensor]]]:
        """Q by blocks and tiles, on both sides; K by heads and blocks, in other heads' lanes zeros.

        By turns, so that what takes many ALUs does not come all at once.
        """
        shape, room = self.shape, self.room
        sizes = (shape.tiles, shape.columns)
        queries = matrix(room, "query", "int8", sizes, bias=True)
        keys = matrix(room, "key", "int8", sizes)
        assert queries.bias is not None
        masks = [
            room.table("mask", (i,), side=SIDES[i % 2], slot=i // 2) for i in range(shape.group)
        ]
        epilogue = Epilogue("int8", self.factors.query, bias=True)
        q: dict[Side, list[list[Tensor]]] = {
            side: [
                [
                    room.rows("int8", len(block), side=side, slot=4 + b % 2)
                    for _ in range(shape.tiles)
                ]
                for b, block in enumerate(shape.blocks)
            ]
            for side in SIDES
        }
        k = [
            [
                room.rows("int8", len(block), side=SIDES[h % 2], slot=8 + h // 2 % 2 * 2 + b % 2)
                for b, block in enumerate(shape.blocks)
            ]
            for h in range(shape.heads)
        ]
        for b in range(len(shape.blocks)):
            rows = (self._rows(b),)
            for n, side in enumerate(queries.sides):
                heads = [k[h][b] for h in range(n * shape.group, (n + 1) * shape.group)]
                tiles = tuple(row[n] for row in keys.tiles)
                finish = self._masked(heads, masks)
                alus = 2 * shape.group
                self.planes.add(side, Item(side, "int8", tiles, rows, alus, finish, "Q, K, V"))
                tiles = tuple(row[n] for row in queries.tiles)
                finish = epilogue.finish([q[to][b][n] for to in SIDES], queries.bias[n])
                alus = epilogue.alus
                self.planes.add(side, Item(side, "int8", tiles, rows, alus, finish, "Q, K, V"))
        return q, k

    def _masked(self, heads: Sequence[Tensor], masks: Sequence[Tensor]) -> Finish:
        def emit(emission: Emission) -> None:
            assert emission.sums is not None
            operands = [emission.sums, *(emission.operand(mask, 0, step=0) for mask in masks)]
            known = len(operands)
            steps: list[Alu] = []
            results: list[tuple[int, Number, list[Target]]] = []
            for i, head in enumerate(heads):
                steps += [Alu("mul", (0, 1 + i)), Alu("int8", (known + len(steps),))]
                target = [Target(head, 0, emission.count)]
                results.append((known + len(steps) - 1, "int8", target))
            emission.vector(operands, steps, results)

        return emit

    def _values(self) -> dict[Side, list[Tensor]]:
        """V^T of the heads of a side, by tiles of positions: of each head a row of ones, which
        lies in memory before, and its rows.
        """
        shape, room = self.shape, self.room
        epilogue = Epilogue("f16", self.factors.value)
        found: dict[Side, list[Tensor]] = {side: [] for side in SIDES}
        most = max(1, self.planes.timing.assumed.accumulator_rows // shape.head)
        for s, side in enumerate(SIDES):
            heads = range(s, shape.heads, 2)
            if not heads:
                continue
            rows = [
                room.given(
                    *("value", (k, s), "int8", len(heads) * shape.head),
                    side=SIDES[k % 2],
                    slot=12 + k // 2 % 2 * 2 + s,
                    local=True,
                )
                for k in range(shape.tiles)
            ]
            for t, block in enumerate(shape.blocks):
                step = shape.head + 1
                held = room.given("ones", (t,), "f16", len(heads) * step, side=side, slot=3)
                head = [-LATER, *[LATER] * shape.head]
                held.there = head * len(heads)
                found[side].append(held)
                at = SIDES[t % 2]
                weights = tuple(Weights((tensor,), "int8", 0, len(block)) for tensor in self.x[t])
                for first in range(0, len(heads), most):
                    count = min(most, len(heads) - first)
                    part = tuple(
                        (Rows(tensor, first * shape.head, count * shape.head),) for tensor in rows
                    )
                    finish = self._spread(epilogue, held, range(first, first + count))
                    item = Item(at, "int8", weights, (part,), epilogue.alus, finish, "Q, K, V")
                    self.planes.add(at, item)
        return found

    def _spread(self, epilogue: Epilogue, target: Tensor, heads: range) -> Finish:
        head = self.shape.head

        def emit(emission: Emission) -> None:
            assert emission.sums is not None
            targets = [
                Target(target, h * (head + 1) + 1, head, n * head) for n, h in enumerate(heads)
            ]
            steps = epilogue.steps(None, None)
            emission.vector([emission.sums], steps, [(len(steps), "f16", targets)])

        return emit

    def _scores(
        self, h: int, q: Sequence[Sequence[Tensor]], k: Sequence[Tensor]
    ) -> list[list[tuple[Tensor, Tensor]]]:
        """exp(scores) of a head by blocks of queries and tiles of keys, each as its even and its
        odd rows, which load as two columns a cycle.
        """
        shape, side = self.shape, SIDES[h % 2]
        count = shape.block // 2
        # Of one head they are written while those of the one before are loaded.
        first = ((0, 6), (-14, -12))[h // 2 % 2]
        found = [
            [
                tuple(
                    self.room.rows("f16", count, side=side, slot=first[t % 2] + odd)
                    for odd in range(2)
                )
                for t in range(len(shape.blocks))
            ]
            for _ in shape.blocks
        ]
        steps = [
            Alu("mul", (0, self.factors.score)),
            Alu("min", (1, SCORE_MAX)),
            Alu("exp", (2,)),
            Alu("f16", (3,)),
        ]
        for t, keys in enumerate(k):
            # Planes of a side read different blocks of Q.
            order = [(b + t) % len(shape.blocks) for b in range(len(shape.blocks))]

            def emit(emission: Emission, t: int = t, order: Sequence[int] = order) -> None:
                assert emission.sums is not None
                halves = found[order[emission.block]][t]
                targets = [Target(half, 0, count, odd, 2) for odd, half in enumerate(halves)]
                emission.vector([emission.sums], steps, [(4, "f16", targets)])

            rows = tuple(((Rows(q[b][h // shape.group], 0, shape.block),),) for b in order)
            weights = (Weights((keys,), "int8", 0, shape.block),)
            self.planes.add(side, Item(side, "int8", weights, rows, 4, emit, "scores"))
        return [[(one, other) for one, other in tiles] for tiles in found]

    def _outputs(
        self,
        h: int,
        numerators: Sequence[Sequence[tuple[Tensor, Tensor]]],
        v: Sequence[Tensor],
    ) -> list[Tensor]:
        """O^T of a head as int8, by blocks of queries."""
        shape, room, side = self.shape, self.room, SIDES[h % 2]
        rows = shape.head + 1
        found = []
        for b, tiles in enumerate(numerators):
            sums = room.rows("f32", rows, side=side, slot=-1 - b % 2)
            weights = tuple(Weights(halves, "f16", 0, shape.block // 2) for halves in tiles)
            values = tuple((Rows(tensor, h // 2 * rows, rows),) for tensor in v)

            def emit(emission: Emission, sums: Tensor = sums) -> None:
                assert emission.sums is not None
                emission.vector([emission.sums], [], [(0, "f32", [Target(sums, 0, rows)])])

            self.planes.add(side, Item(side, "f16", weights, (values,), 0, emit, "values"))
            inverse = room.rows("f32", 1, side=SIDES[1 - h % 2], slot=-4)
            turned = room.rows("int8", shape.head, side=SIDES[b % 2], slot=-12 + h % shape.group)
            self._normalised(sums, inverse, turned)
            found.append(turned)
        return found

    def _normalised(self, sums: Tensor, inverse: Tensor, turned: Tensor) -> None:
        """Numbers over denominators, and into int8."""

        def invert(emission: Emission) -> None:
            steps = [
                Alu("max", (0, TINY)),
                Alu("rsqrt", (1,)),
                Alu("mul", (2, 2)),
                Alu("mul", (3, self.factors.output)),
            ]
            where = [Target(inverse, 0, 1)]
            emission.vector([emission.operand(sums, 0)], steps, [(4, "f32", where)])

        def scale(emission: Emission) -> None:
            operands = [emission.operand(sums, 1), emission.operand(inverse, 0, step=0)]
            steps = [Alu("mul", (0, 1)), Alu("int8", (2,))]
            emission.vector(operands, steps, [(3, "int8", [Target(turned, 0, turned.count)])])

        self.planes.add_pass(Pass((sums,), 1, 4, invert))
        self.planes.add_pass(Pass((sums, inverse), turned.count, 2, scale))

    def _turn(self, turned: dict[tuple[int, int], Tensor]) -> list[list[Tensor]]:
        """O by blocks and tiles."""
        shape, room = self.shape, self.room
        found: list[list[Tensor]] = []
        for b in range(len(shape.blocks)):
            side = SIDES[b % 2]
            units = [
                room.given("identity", (b, n), "int8", shape.block, side=side, slot=4 + n)
                for n in range(2)
            ]
            found.append([])
            for j in range(shape.tiles):
                out = room.rows("int8", shape.block, side=SIDES[j % 2], slot=6 + j // 2 % 2)
                group = range(j * shape.group, (j + 1) * shape.group)
                weights = Weights(tuple(turned[h, b] for h in group), "int8", 0, shape.head)

                def emit(emission: Emission, out: Tensor = out) -> None:
                    assert emission.sums is not None
                    where = [Target(out, 0, emission.count)]
                    emission.vector([emission.sums], [Alu("int8", (0,))], [(1, "int8", where)])

                rows = (((Rows(units[j % 2], 0, shape.block),),),)
                self.planes.add(side, Item(side, "int8", (weights,), rows, 1, emit, "turn"))
                found[-1].append(out)
        return found
