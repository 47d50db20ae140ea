from __future__ import annotations

import pytest

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Slot
from atoll.sim.fake_model import FakeShard, ModelMisuse, expected_output, pack, unpack

SLOT = Slot(0)


def test_a_cut_model_computes_the_same_rows() -> None:
    rows = [11, 22, 33]
    whole = FakeShard(0, 5).run(SLOT, 0, rows)
    first, second = FakeShard(0, 2), FakeShard(2, 5)
    assert second.run(SLOT, 0, first.run(SLOT, 0, rows)) == whole
    assert FakeShard(2, 5).run(SLOT, 0, FakeShard(0, 3).run(SLOT, 0, rows)) != whole


def test_a_row_depends_on_all_before_it() -> None:
    model = FakeShard(0, 2)
    one = model.run(SLOT, 0, [1, 2, 3])[-1]
    assert model.run(SLOT, 0, [9, 2, 3])[-1] != one
    assert model.run(SLOT, 1, [2, 3])[-1] != one
    assert model.run(SLOT, 0, [1, 2, 3])[-1] == one
    assert model.run(SLOT, 2, [3])[-1] == one


def test_misuse_is_noticed() -> None:
    model = FakeShard(0, 2)
    model.run(SLOT, 0, [1, 2])
    with pytest.raises(ModelMisuse, match="holds 2 positions, not 3"):
        model.run(SLOT, 3, [1])
    with pytest.raises(ModelMisuse, match="are not 2 rows"):
        unpack(pack([1]), 2)


def test_the_last_token_says_length() -> None:
    request = GenerateRequest((1, 2, 3), 99, ignore_eos=True)
    out = expected_output(request, 3, context=6)
    assert [s.finish for s in out] == [None, None, None, "length"]


def test_what_is_taken_out_goes_on_elsewhere() -> None:
    shard, first, second = FakeShard(1, 3), Slot(0), Slot(1)
    shard.run(first, 0, [5, 6, 7])
    expected = shard.run(first, 2, [8])
    parcel = shard.take(first, 2)
    assert parcel is not None
    assert shard.slots_held == 0
    shard.put(second, 2, parcel)
    assert shard.run(second, 2, [8]) == expected
    assert shard.take(second, 4) is None
    assert shard.slots_held == 0
    with pytest.raises(ModelMisuse):
        shard.put(second, 3, parcel)
