"""Where parameters lie: what the compiled layers find has the form that they expect."""

from __future__ import annotations

import numpy as np
from tests.support.lpu_encoders import model

from atoll.lpu.compiler.encoder.layer import compile_encoder
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.machine import shipped_chips
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


def test_every_piece_is_filled_to_its_last_word() -> None:
    shape = Shape(TIMING, 192, 3, 500, 64)
    layer = model(shape, 0).layer
    pieces = compile_encoder(shape, layer.scales).room.pieces
    for piece in pieces:
        if piece.what not in ("x", "residual"):
            words = layer.words(piece.what, piece.part, piece.words)
            assert words.shape == (piece.words, len(piece.slices), TIMING.lanes), piece
            assert words.any(), piece


def test_rows_of_output_stand_in_the_order_of_turned_heads() -> None:
    shape = Shape(TIMING, 256, 4, 320, 64)
    layer = model(shape, 0).layer
    words = layer.words("output", (0, 0), 32)
    column = words[0, 3].view(np.int8)
    # Lane 4 n + i is number n of head i.
    assert (column[2:256:4] == layer.weights["output"][128:192, 3]).all()
