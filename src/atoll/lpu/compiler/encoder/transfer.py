"""Rows from one chip to another, over the link between them and by way of others.

A vector holds a link for 24 cycles, so that rows of 384 positions take 80 us over one. Chips
that have nothing else to do pass on what they get: it crosses their vector unit and leaves
again, a hop later. Routes send in different cycles of the 24, so that none meets another.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.program import (
    Flow,
    Instruction,
    Operand,
    Read,
    Receive,
    Result,
    Routine,
    Send,
    Vector,
    Write,
)
from atoll.lpu.timing import Timing

SENDER, RECEIVER = 0, 1
FIRST_RELAY = 2


def transfer(timing: Timing, tensors: Sequence[Tensor], relays: int) -> Routine:
    """Tensors to the same place on another chip: chip 0 of the routine sends, chip 1 receives,
    and the others, so many, pass on.

    Raises:
        BadRequest: There are more routes than streams for links of an edge, or a relay is no
            number of chips.
    """
    routes = 1 + relays
    if not 1 <= routes <= timing.link_cycles or routes > timing.streams:
        raise BadRequest(f"{relays} chips cannot pass on what a chip sends")
    chips: list[list[Instruction]] = [[] for _ in range(FIRST_RELAY + relays)]
    slices = [(tensor, s) for tensor in tensors for s in tensor.slices]
    for route in range(routes):
        at = timing.edge + route
        for tensor, s in slices[route::routes]:
            _send(timing, chips, (route, at), tensor, s)
            at += tensor.count * timing.link_cycles
    last = max(i.end for code in chips for i in code)
    return Routine("transfer", tuple(map(tuple, chips)), last + timing.edge + timing.link_cycles)


def _send(
    timing: Timing,
    chips: list[list[Instruction]],
    route: tuple[int, int],
    tensor: Tensor,
    number: int,
) -> None:
    """The words of a slice by a route, from a phase on."""
    stream, at = route
    count, stride, address = tensor.count, timing.link_cycles, tensor.address
    out, back = (Flow(tensor.side, "out", stream, 1), Flow(tensor.side, "in", stream, 1))
    to = RECEIVER if stream == 0 else FIRST_RELAY + stream - 1
    place = (number,)
    chips[SENDER] += [
        Read(at=at, count=count, stride=stride, flow=out, slices=place, address=address),
        Send(at=at, count=count, stride=stride, flow=out, to=to),
    ]
    source = SENDER
    at = timing.received(at)
    if to != RECEIVER:
        chips[to] += [
            Receive(at=at, count=count, stride=stride, flow=back, source=SENDER),
            Vector(
                at=at,
                count=count,
                stride=stride,
                operands=(Operand(back, "int8"),),
                steps=(),
                results=(Result(0, out, "int8"),),
            ),
            Send(at=at, count=count, stride=stride, flow=out, to=RECEIVER),
        ]
        source = to
        at = timing.received(at)
    chips[RECEIVER] += [
        Receive(at=at, count=count, stride=stride, flow=back, source=source),
        Write(at=at, count=count, stride=stride, flow=back, slices=place, address=address),
    ]
