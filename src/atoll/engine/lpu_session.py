"""A model on simulated chips: compiled, laid out, and run token by token.

The numbers are those that chips with this schedule compute: nothing but the schedule moves data
(`lpu/simulator`). The host's part is a row of the embedding in and the logits out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest
from atoll.engine.float_weights import FloatWeights
from atoll.lpu.compiler.chips.place import DoesNotFit, Placed, Wanted, place_decoder
from atoll.lpu.compiler.decoder.caches import indices
from atoll.lpu.compiler.memory import Stored
from atoll.lpu.laying import Laying
from atoll.lpu.machine import shipped_chips
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.sizes import topology_for
from atoll.lpu.timing import Timing, shipped_assumed
from atoll.lpu.words import Words

Logits = NDArray[np.float32]
Heard = Callable[[str], None]

VALUES = "values"
"""What `Piece.what` calls values in a layer's cache."""
TELL_TIMES = 5
"""So often it is told how far the laying out is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LpuOptions:
    """Chips and caches of a session.

    Attributes:
        chips: The model may lie on so many; None: as few as hold it, as f16 unless told.
        context: Positions that caches have room for.
        stored: How weights are stored; None: f16 if they fit, else int8.
        system: How chips are joined; empty: the smallest system that has so many.
    """

    chips: int | None = None
    context: int = 512
    stored: Stored | None = None
    system: str = ""


def place_model(weights: FloatWeights, options: LpuOptions, heard: Heard | None = None) -> Placed:
    """The fastest program for a token of the model.

    Raises:
        BadRequest: The model does not fit, or does not come apart so.
    """
    if options.chips is not None:
        return _place_on(options.chips, options.stored, weights, options, heard)
    stored = options.stored or "f16"
    try:
        return _place_on(1, stored, weights, options, heard)
    except DoesNotFit as problem:
        return _place_on(problem.chips, stored, weights, options, heard)


def _place_on(
    chips: int,
    stored: Stored | None,
    weights: FloatWeights,
    options: LpuOptions,
    heard: Heard | None,
) -> Placed:
    topology = topology_for(chips, options.system)
    timing = Timing(shipped_chips().find(topology.system.chip), shipped_assumed())
    wanted = Wanted(
        shape=weights.facts.shape,
        chips=chips,
        context=options.context,
        stored=stored,
        half=weights.facts.half,
        eps=weights.facts.eps,
    )
    return place_decoder(timing, topology, wanted, heard)


class LpuSession:
    """One sequence of tokens; `position` is that of the next one."""

    def __init__(self, weights: FloatWeights, placed: Placed, heard: Heard | None = None) -> None:
        """Lay the weights out in the chips' memory, layer by layer.

        Args:
            weights: The model's.
            placed: Its program.
            heard: Is told how far it is.

        Raises:
            BadRequest: Weights are of a type that nothing here unpacks.
        """
        self.placed = placed
        self.position = 0
        self._weights = weights
        self._heard = heard or (lambda _: None)
        self._layers_seen = 0
        self._laying = self._new_laying()
        self._simulator = Simulator(placed.program, placed.timing, self._words)
        # What was unpacked last is as large as the head.
        self._laying = self._new_laying()
        weights.forget()

    @property
    def context(self) -> int:
        """Positions in all."""
        return self.placed.wanted.context

    def token(self, token: int) -> Logits:
        """Run the program for a token at `position`; logits of the next, shape (vocabulary,).

        Raises:
            BadRequest: The context is full.
            ValueError: The id is outside the vocabulary.
        """
        if self.position >= self.context:
            raise BadRequest(
                f"the context of {self.context} positions is full",
                hint="begin anew, or compile for a larger context",
            )
        placed, simulator = self.placed, self._simulator
        compiled = placed.compiled
        row = self._weights.embedding(token)
        hidden, logits = compiled.hidden, compiled.logits
        for member, chip in enumerate(self._group(0)):
            words = self._laying.hidden(row, member)
            simulator.poke(chip, hidden.side, hidden.slices, hidden.address, words)
        simulator.run(
            indices(
                self.position,
                positions=self.context,
                lanes=placed.timing.lanes,
                dims=compiled.split.dims,
            )
        )
        self.position += 1
        parts = [
            simulator.peek(chip, logits.side, logits.slices, logits.address, logits.count)
            for chip in self._group(-1)
        ]
        found = np.concatenate([self._laying.logits(part) for part in parts])
        return found[: placed.wanted.shape.vocab]

    def reset(self) -> None:
        """Begin a new sequence. A new value is added to what lies at its position, so all are
        made zeros; keys are written over, and those ahead are masked.
        """
        lanes = self.placed.timing.lanes
        for block in self.placed.program.blocks:
            if self.placed.origins[block.tensor].pieces[0].what == VALUES:
                zeros = np.zeros((block.words, len(block.slices), lanes), np.uint8)
                self._simulator.poke(block.chip, block.side, block.slices, block.address, zeros)
        self.position = 0

    def _group(self, stage: int) -> tuple[int, ...]:
        return self.placed.groups[self.placed.stages[stage].group]

    def _new_laying(self) -> Laying:
        weights = self._weights
        return Laying(
            self.placed.compiled,
            weights.facts.rotation,
            weights.layer,
            weights.head,
            lanes=self.placed.timing.lanes,
        )

    def _words(self, tensor: str) -> Words:
        origin = self.placed.origins[tensor]
        layers = self.placed.wanted.shape.layers
        if origin.layer >= self._layers_seen:
            self._layers_seen = origin.layer + 1
            if origin.layer % math.ceil(layers / TELL_TIMES) == 0:
                self._heard(f"laying out layer {origin.layer + 1} of {layers}")
        return np.concatenate(
            [
                self._laying.words(piece, origin.routine, origin.layer, origin.member)
                for piece in origin.pieces
            ]
        )
