"""The gated feed-forward block of a token on a chip: silu(g) u, Shazeer, arXiv:2002.05202."""

from __future__ import annotations

from atoll.lpu.compiler.builder import Builder, Matrix
from atoll.lpu.compiler.chain import Chain, Tensor
from atoll.lpu.program import SIDES, Alu, Operand, Side


def gated(builder: Builder, x: Tensor, matrix: Matrix) -> Tensor:
    """The inner activations, f16, shape (matrix.width / 2, 320).

    Args:
        builder: The routine.
        x: f16, what the block is given.
        matrix: Columns of gates and of what is gated in turns, a tile of each: so both come out
            on the two sides in the same cycle.
    """
    made = builder.memory.scratch("f16", matrix.width // 2)
    done = 0

    def finish(chain: Chain, sums: dict[Side, Operand], at: int) -> None:
        nonlocal done
        operands = [sums[side] for side in SIDES]
        steps: list[Alu] = []
        gate, up = 0, 1
        if matrix.scales:
            operands += [chain.read(scales, at=at, first=done) for scales in matrix.scales]
            steps += [Alu("mul", (0, 2)), Alu("mul", (1, 3))]
            gate, up = 4, 5
        n = len(operands) + len(steps)
        # silu(g) = g / (1 + exp(-g)) = h + h tanh(h), h = g / 2.
        steps += [
            Alu("mul", (gate, 0.5)),
            Alu("tanh", (n,)),
            Alu("mul", (n, n + 1)),
            Alu("add", (n, n + 2)),
            Alu("mul", (n + 3, up)),
            Alu("f16", (n + 4,)),
        ]
        out = chain.streams(made.side, "out", 2)
        [left] = chain.vector(operands, steps, [(n + 5, "f16", out)], at=at)
        chain.write(made, out, at=left, first=done)
        done += 1

    builder.product(x, matrix, finish)
    return made
