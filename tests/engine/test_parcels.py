"""Parcels are loaded by the process that made them alone, unchanged, and under their label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support.cut_models import Rows

from atoll.engine.batch import Span
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.engine.parcel_messages import GivenIn, PutIn, TakenOut, TakeOut
from atoll.engine.parcels import NONCE_BYTES, TAG_BYTES, ParcelFault, Parcels
from atoll.engine.state import take_state

pytestmark = pytest.mark.engine

OPTIONS = ContextOptions(
    n_slots=3, context=64, rows_max=16, threads=1, threads_large=2, outputs_max=16
)
LABEL = b"model|2-4|7.1|9"


@pytest.fixture(scope="module")
def contexts(small_shards: list[Path]) -> Iterator[list[Context]]:
    models = [Model(path) for path in small_shards[:2]]
    found = [Context(model, OPTIONS, tap=True) for model in models]
    yield found
    for context, model in zip(found, models, strict=True):
        context.close()
        model.close()


@pytest.fixture
def parcels(contexts: list[Context]) -> Parcels:
    return Parcels(contexts)


def run(contexts: list[Context], span: Span, seed: int) -> list[Rows]:
    found = []
    for context in contexts:
        rows = np.random.default_rng(seed).standard_normal((span.rows, context.model.n_embd))
        context.inputs(span.rows)[:] = rows.astype(np.float32)
        found.append(context.hidden([span]).copy())
    return found


def held(contexts: list[Context], slot: int) -> list[int]:
    return [context.held(slot) for context in contexts]


def test_out_and_in_again_in_another_slot(contexts: list[Context], parcels: Parcels) -> None:
    run(contexts, Span(0, 0, 12), 1)
    expected = run(contexts, Span(0, 12, 3), 2)
    # What lies beyond the tokens is left out.
    parcel = parcels.take_out(0, 12, LABEL)
    assert held(contexts, 0) == [0, 0]
    run(contexts, Span(0, 0, 5), 3)
    parcels.put_in(1, 12, LABEL, parcel)
    found = run(contexts, Span(1, 12, 3), 2)
    for got, wanted in zip(found, expected, strict=True):
        assert np.array_equal(got, wanted)


def test_no_state_can_be_read_in_a_parcel(contexts: list[Context], parcels: Parcels) -> None:
    run(contexts, Span(0, 0, 12), 1)
    states = [bytes(take_state(context, 0)) for context in contexts]
    first = parcels.take_out(0, 12, LABEL)
    pieces = [s[at : at + 16] for s in states for at in range(0, len(s) - 16, 16)]
    assert not any(piece in first for piece in pieces if len(set(piece)) > 4)
    assert len(first) == NONCE_BYTES + sum(len(s) + 8 for s in states) + TAG_BYTES
    # The same caches twice: nothing of it is equal.
    run(contexts, Span(0, 0, 12), 1)
    second = parcels.take_out(0, 12, LABEL)
    assert first[:NONCE_BYTES] != second[:NONCE_BYTES]
    assert first[NONCE_BYTES:][:64] != second[NONCE_BYTES:][:64]


def flipped(parcel: bytes, at: int) -> bytes:
    return parcel[:at] + bytes([parcel[at] ^ 1]) + parcel[at + 1 :]


def test_whatever_is_not_as_it_was_made_is_refused(
    contexts: list[Context], parcels: Parcels
) -> None:
    run(contexts, Span(0, 0, 12), 1)
    parcel = parcels.take_out(0, 12, LABEL)
    changed = [flipped(parcel, at) for at in (0, NONCE_BYTES, len(parcel) // 2, len(parcel) - 1)]
    cut = [b"", parcel[:5], parcel[:-1], parcel[: len(parcel) // 2], parcel + b"\0"]
    wrong = [(12, LABEL, blob) for blob in changed + cut]
    wrong += [(11, LABEL, parcel), (13, LABEL, parcel), (12, LABEL + b"0", parcel)]
    wrong += [(12, b"model|4-6|7.1|9", parcel)]
    for tokens, label, blob in wrong:
        run(contexts, Span(2, 0, 4), 5)
        with pytest.raises(ParcelFault):
            parcels.put_in(2, tokens, label, blob)
        assert held(contexts, 2) == [0, 0]
    with pytest.raises(ParcelFault, match="changed, or is another"):
        Parcels(contexts).put_in(2, 12, LABEL, parcel)
    parcels.put_in(2, 12, LABEL, parcel)
    assert held(contexts, 2) == [12, 12]


def test_what_is_not_there_or_too_large_makes_no_parcel(
    contexts: list[Context], parcels: Parcels
) -> None:
    for tokens in (0, 13, -1):
        run(contexts, Span(0, 0, 12), 1)
        with pytest.raises(ParcelFault):
            parcels.take_out(0, tokens, LABEL)
        assert held(contexts, 0) == [0, 0]
    run(contexts, Span(0, 0, 12), 1)
    with pytest.raises(ParcelFault, match="too large"):
        Parcels(contexts, bytes_max=1000).take_out(0, 12, LABEL)
    assert held(contexts, 0) == [0, 0]


def test_orders_are_answered_with_what_became_of_them(
    contexts: list[Context], parcels: Parcels
) -> None:
    run(contexts, Span(0, 0, 12), 1)
    answer, parcel = parcels.obey(TakeOut(0, 9, 12, LABEL), b"")
    assert answer == TakenOut(9)
    assert parcels.obey(PutIn(0, 9, 12, LABEL), parcel) == (GivenIn(9), b"")
    refused, nothing = parcels.obey(PutIn(1, 9, 12, LABEL), parcel[:-1])
    assert isinstance(refused, GivenIn)
    assert "changed" in refused.problem
    assert nothing == b""
    empty, nothing = parcels.obey(TakeOut(1, 9, 12, LABEL), b"")
    assert isinstance(empty, TakenOut)
    assert "holds 0 positions" in empty.problem
    assert nothing == b""
