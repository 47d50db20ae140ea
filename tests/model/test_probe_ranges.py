"""Which layers are timed."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import MakeModel

from atoll.domain.ids import ModelId
from atoll.model.manifest import Manifest, describe
from atoll.model.parts import open_model
from atoll.model.probe_ranges import MIB, probe_ranges

PAIR_BYTES_MAX = 256 * MIB


@pytest.fixture(scope="module")
def manifest(random_model: MakeModel) -> Manifest:
    return describe(open_model(random_model("llama", n_layers=6)), ModelId("a" * 64))


def sized(manifest: Manifest, n_layers: int, layer_bytes: int = 1) -> Manifest:
    return msgspec.structs.replace(
        manifest, n_layers=n_layers, layer_bytes=(layer_bytes,) * n_layers
    )


def test_the_middle_of_a_model(manifest: Manifest) -> None:
    assert probe_ranges(manifest, range(7)) == ((1, 2), (1, 4))
    assert probe_ranges(sized(manifest, 30), range(31)) == ((11, 12), (11, 19))


def test_only_where_it_may_be_cut(manifest: Manifest) -> None:
    assert probe_ranges(sized(manifest, 26), (0, 6, 12, 18, 24, 26)) == ((6, 12), (6, 24))


def test_never_the_whole_model_if_that_can_be_helped(manifest: Manifest) -> None:
    assert probe_ranges(sized(manifest, 3), range(4)) == ((0, 1), (0, 2))
    assert probe_ranges(sized(manifest, 2), range(3)) == ((0, 1), None)
    assert probe_ranges(sized(manifest, 1), (0, 1)) == ((0, 1), None)


def test_the_larger_the_layers_the_fewer(manifest: Manifest) -> None:
    ninth = 32 * MIB // 9
    assert probe_ranges(sized(manifest, 80, ninth), range(81)) == ((36, 37), (36, 44))
    assert probe_ranges(sized(manifest, 80, ninth + 1), range(81)) == ((38, 39), (38, 41))
    third = PAIR_BYTES_MAX // 3
    assert probe_ranges(sized(manifest, 80, third), range(81)) == ((39, 40), (39, 41))
    assert probe_ranges(sized(manifest, 80, third + 1), range(81)) == ((39, 40), None)


@given(st.integers(1, 130), st.integers(1, 1 << 30))
def test_ranges_lie_in_the_model(n_layers: int, layer_bytes: int) -> None:
    empty = Manifest(
        *(ModelId("a" * 64), 1, "", "llama", "", n_layers, 1, 1, 1),
        layer_bytes=(layer_bytes,) * n_layers,
        layer_kv_bytes=(1,) * n_layers,
        other_bytes=0,
        data_offset=0,
    )
    short, long = probe_ranges(empty, range(n_layers + 1))
    assert 0 <= short[0] < short[1] <= n_layers
    if long is not None:
        assert long[0] == short[0]
        assert short[1] < long[1] <= n_layers
        total = (long[1] - long[0] + short[1] - short[0]) * layer_bytes
        assert total <= PAIR_BYTES_MAX
