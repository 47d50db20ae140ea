"""Blocks of memory and where they come from."""

from __future__ import annotations

from dataclasses import replace

from tests.support.lpu_small import SMALL

from atoll.lpu.compiler.chips.layout import Part, digest, joined, parts_of
from atoll.lpu.compiler.memory import Piece
from atoll.lpu.program import Block, Flow, Program, Read, Routine, Step


def piece(
    address: int, words: int, *, what: str = "inner", slices: tuple[int, ...] = (0, 1)
) -> Piece:
    return Piece(what, (address,), "west", slices, address, words, True)


def test_parts_in_the_order_of_a_token() -> None:
    parts = parts_of(SMALL)
    assert parts[:3] == [Part("attention", 0), Part("feed-forward", 0), Part("attention", 1)]
    assert parts[-1] == Part("head", -1)
    assert len(parts) == 2 * SMALL.layers + 1


def test_pieces_that_lie_one_behind_the_other_are_one() -> None:
    first, second, third = piece(0, 4), piece(4, 2), piece(6, 1)
    apart = piece(9, 1)
    other, elsewhere = piece(7, 2, what="outer"), piece(4, 2, slices=(2, 3))
    found = joined([third, first, elsewhere, apart, second, other])
    assert sorted(
        found, key=lambda pieces: (pieces[0].what, pieces[0].slices, pieces[0].address)
    ) == [
        (first, second, third),
        (apart,),
        (elsewhere,),
        (other,),
    ]


def test_a_digest_is_of_everything() -> None:
    read = Read(at=3, flow=Flow("west", "in", 0, 1), slices=(4,), address=5)
    program = Program(
        *(2, (Routine("r", ((read,), ()), 9),), (Step(0, (0, 1), 0),)),
        (Block(0, "west", (4,), 5, 1, "t"),),
    )
    changed = [
        replace(program, chips=3),
        replace(program, steps=(Step(0, (1, 0), 0),)),
        replace(program, blocks=()),
        replace(program, routines=(Routine("r", ((), (read,)), 9),)),
        replace(program, routines=(Routine("r", ((replace(read, at=4),), ()), 9),)),
        replace(program, routines=(Routine("r", ((read,), ()), 10),)),
    ]
    found = {digest(program), *map(digest, changed)}
    assert len(found) == 1 + len(changed)
    assert digest(program) == digest(replace(program))
