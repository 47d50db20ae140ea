"""What lies in the chips' memory before a program starts, and which part of a model it is.

Pieces of one matrix that lie one behind the other in the same slices are one block: a model of
70 billion weights has a few ten thousand blocks, not two million.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atoll.forecast.shapes import ModelShape
from atoll.lpu.compiler.chips.stages import Run
from atoll.lpu.compiler.decoder.decode import Compiled
from atoll.lpu.compiler.memory import Piece
from atoll.lpu.program import Block, Program

SHARED = "tables"
"""Stands for the routine in names of what all routines share."""


@dataclass(frozen=True, slots=True)
class Part:
    """A routine for a layer; the head's layer is -1."""

    routine: str
    layer: int = -1


@dataclass(frozen=True, slots=True)
class Origin:
    """What a block holds: `pieces` one behind the other, of a routine for a layer, on a member of
    a group. Routine "" and layer -1: what all routines share, for all members alike.
    """

    routine: str
    layer: int
    member: int
    pieces: tuple[Piece, ...]


def parts_of(shape: ModelShape) -> list[Part]:
    """Parts of a decoder in the order of a token."""
    layers = [
        Part(routine, layer)
        for layer in range(shape.layers)
        for routine in ("attention", "feed-forward")
    ]
    return [*layers, Part("head")]


def joined(pieces: Iterable[Piece]) -> list[tuple[Piece, ...]]:
    """Pieces of the same thing that lie one behind the other, together."""
    by_place: dict[tuple[object, ...], list[Piece]] = {}
    for piece in pieces:
        by_place.setdefault((piece.what, piece.side, piece.slices, piece.local), []).append(piece)
    found: list[tuple[Piece, ...]] = []
    for alike in by_place.values():
        alike.sort(key=lambda piece: piece.address)
        begun: list[Piece] = []
        for piece in alike:
            if begun and begun[-1].address + begun[-1].words != piece.address:
                found.append(tuple(begun))
                begun = []
            begun.append(piece)
        found.append(tuple(begun))
    return found


def lay_out(
    compiled: Compiled,
    parts: Sequence[Part],
    runs: Sequence[Run],
    groups: Sequence[tuple[int, ...]],
) -> tuple[list[Block], dict[str, Origin]]:
    """Blocks of all chips, and what each of their tensors is."""
    blocks: list[Block] = []
    origins: dict[str, Origin] = {}
    alike = {routine: joined(pieces) for routine, pieces in compiled.pieces.items()}

    def lay(part: Part, base: int, member: int, chip: int) -> None:
        for n, pieces in enumerate(alike[part.routine]):
            first = pieces[0]
            # What all share is the same on all chips.
            where = f"{part.routine}/{part.layer}/{member}" if part.routine else SHARED
            tensor = f"{where}/{first.what}/{n}"
            address = first.address + (base if first.local else 0)
            words = sum(piece.words for piece in pieces)
            blocks.append(Block(chip, first.side, first.slices, address, words, tensor))
            origins.setdefault(tensor, Origin(part.routine, part.layer, member, pieces))

    for chips in groups:
        for member, chip in enumerate(chips):
            lay(Part(""), 0, member, chip)
    for run in runs:
        for part, base in zip(parts[run.first : run.end], run.bases, strict=True):
            for member, chip in enumerate(groups[run.group]):
                lay(part, base, member, chip)
    return blocks, origins


def digest(program: Program) -> str:
    """SHA-256, in hexadecimal, over everything in a program."""
    found = hashlib.sha256()
    texts: dict[int, bytes] = {}
    for routine in program.routines:
        found.update(f"routine {routine.name!r} {routine.cycles}\n".encode())
        for code in routine.chips:
            found.update(b"chip\n")
            for instruction in code:
                # Chips of a routine share most of their instructions.
                text = texts.get(id(instruction))
                if text is None:
                    text = texts[id(instruction)] = repr(instruction).encode()
                found.update(text + b"\n")
    found.update(f"{program.chips} chips\n".encode())
    for step in program.steps:
        found.update(f"{step!r}\n".encode())
    for block in program.blocks:
        found.update(f"{block!r}\n".encode())
    return found.hexdigest()
