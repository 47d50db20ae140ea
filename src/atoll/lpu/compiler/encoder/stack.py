"""A stack of encoder layers on chips in a row, and how long one input takes through it.

Published for BERT-Large: 24 encoders on four chips in 1,225 us, the 99th percentile, with PCIe
(Abts et al., ISCA 2022). The sequence's length is not stated there: 384, the usual of SQuAD
1.1, is our assumption. Nothing here is fitted to that figure. Not compiled: embeddings before
the first layer and the answer's product after the last; rows come and go as f16.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from atoll.domain.errors import BadRequest
from atoll.forecast.wires import shipped_wires
from atoll.lpu.compiler.chain import LATER, Tensor
from atoll.lpu.compiler.encoder.layer import Encoder, Scales, compile_encoder
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.compiler.encoder.transfer import transfer
from atoll.lpu.compiler.rows.emission import Emission, Pass, Target
from atoll.lpu.compiler.rows.planes import Planes
from atoll.lpu.program import NUMBER_BYTES, Alu, Block, Program, Routine, Step

HOST = "Groq host PCIe"
"""10 us and 24 GB/s each way, as repo groq/groqflow estimates, groqmodel.py."""
LAYER, ENTRY, TRANSFER = range(3)


@dataclass(frozen=True, slots=True)
class Stack:
    """All layers: `program` has a step for each, for each transfer, and for what makes int8 of
    rows that came.
    """

    shape: Shape
    encoder: Encoder
    program: Program
    layers: int

    @property
    def chip_s(self) -> float:
        """Seconds from the first chip's beginning to the last's end."""
        return self.program.cycles / self.shape.timing.chip.hertz

    @property
    def host_s(self) -> float:
        """Seconds of the ways from and to the host, of rows of f16."""
        link = shipped_wires().links.find(HOST)
        size = self.shape.rows * self.shape.hidden * NUMBER_BYTES["f16"]
        return 2 * (link.latency + size / link.bandwidth)

    @property
    def total_s(self) -> float:
        """Seconds from host to host."""
        return self.chip_s + self.host_s


def compile_stack(shape: Shape, scales: Scales, *, layers: int = 24, chips: int = 4) -> Stack:
    """Layers on chips that are all joined to each other, as many on each.

    All layers have these scales; of other scales a layer has other constants in a routine of
    its own, and the same cycles.

    Raises:
        BadRequest: Layers do not divide by chips, or do not fit on them; a layer's rows leave by
            another scale than the next takes.
    """
    if chips < 1 or layers < 1 or layers % chips:
        raise BadRequest(f"{layers} layers are not as many on each of {chips} chips")
    if scales.x != scales.y:
        raise BadRequest("rows leave a layer by another scale than the next takes")
    each = layers // chips
    encoder = compile_encoder(shape, scales, layers=each)
    rows = [tensor for block in encoder.residual for tensor in block]
    routines = [encoder.routine, _entry(encoder, scales)]
    if chips > 1:
        routines.append(transfer(shape.timing, rows, chips - 2))
    steps: list[Step] = []
    at = 0
    for chip in range(chips):
        others = [other for other in range(chips) if other not in (chip - 1, chip)]
        if chip:
            steps.append(Step(TRANSFER, (chip - 1, chip, *others), at))
            at += routines[TRANSFER].cycles
        steps.append(Step(ENTRY, (chip,), at))
        at += routines[ENTRY].cycles
        for n in range(each):
            base = n * encoder.room.local_words
            steps.append(Step(LAYER, (chip,), at, base, chip * each + n))
            at += encoder.routine.cycles
    blocks = tuple(_blocks(encoder, chips, each))
    return Stack(shape, encoder, Program(chips, tuple(routines), tuple(steps), blocks), layers)


def _entry(encoder: Encoder, scales: Scales) -> Routine:
    """Rows of f16 into int8."""
    planes = Planes(encoder.shape.timing)
    for tensors, shorts in zip(encoder.residual, encoder.x, strict=True):
        for tensor, short in zip(tensors, shorts, strict=True):
            target = replace(short, there=[LATER] * short.count)

            def emit(emission: Emission, tensor: Tensor = tensor, target: Tensor = target) -> None:
                steps = [Alu("mul", (0, 1 / scales.x)), Alu("int8", (1,))]
                where = [Target(target, 0, emission.count)]
                emission.vector([emission.operand(tensor, 0)], steps, [(2, "int8", where)])

            planes.add_pass(Pass((tensor,), tensor.count, 2, emit))
    planes.run()
    return planes.routine("entry")


def _blocks(encoder: Encoder, chips: int, layers: int) -> Iterator[Block]:
    """What lies in memory before: `layer/what/part` of weights, `chip/...` of shared tables. Of
    rows, only the first chip's.
    """
    for chip in range(chips):
        for piece in encoder.room.pieces:
            part = ".".join(map(str, piece.part))
            if piece.what == "x" or (piece.what == "residual" and chip):
                continue
            for n in range(layers if piece.local else 1):
                owner = f"layer {chip * layers + n}" if piece.local else f"chip {chip}"
                address = piece.address + n * encoder.room.local_words * piece.local
                name = f"{owner}/{piece.what}/{part}"
                yield Block(chip, piece.side, piece.slices, address, piece.words, name)
