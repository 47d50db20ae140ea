"""All that reads bytes of strangers, under some made bytes; `make soak` tries many more."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from bench.fuzz_target import Target
from bench.fuzz_targets import close, targets
from hypothesis import given, settings
from hypothesis import strategies as st

TARGETS = targets()
ENDLESS = {"relay"}
"""It reads until the bytes end, which is an error of theirs."""
all_targets = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))


@pytest.fixture(autouse=True, scope="module")
def _closed() -> Iterator[None]:
    yield
    close()


def read(target: Target, data: bytes) -> None:
    try:
        target.read(data)
    except target.known:
        return


@all_targets
def test_sound_inputs_are_read(target: Target) -> None:
    for seed in target.seeds:
        if target.name in ENDLESS:
            with pytest.raises(target.known):
                target.read(seed)
        else:
            target.read(seed)


@all_targets
@settings(max_examples=60, deadline=None, database=None)
@given(seed=st.integers(0, 2**32))
def test_made_inputs_are_read_or_refused(target: Target, seed: int) -> None:
    rng = Random(seed)
    for _ in range(5):
        read(target, target.input(rng))


@all_targets
@settings(max_examples=30, deadline=None, database=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(target: Target, data: bytes) -> None:
    read(target, data)


def test_most_changes_reach_behind_the_first_check() -> None:
    """Else the inputs would only try what every input tries."""
    for name, least in {"gguf": 20, "data": 30, "control": 30, "parts": 20, "plan": 20}.items():
        rng, sound = Random(3), 0
        for _ in range(200):
            try:
                TARGETS[name].read(TARGETS[name].input(rng))
            except TARGETS[name].known:
                continue
            sound += 1
        assert least <= sound <= 190, (name, sound)
