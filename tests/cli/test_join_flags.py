"""What the options of `atoll join` mean for the node; test_join.py gives them on command lines."""

from __future__ import annotations

import platform

import pytest

from atoll.cli.join_flags import JoinFlags
from atoll.domain.errors import BadRequest
from atoll.engine.threads import SHARED_SPIN


def test_defaults() -> None:
    options = JoinFlags().node_options()
    assert options.name == platform.node()
    assert options.spin == SHARED_SPIN
    assert options.threads >= 1
    assert options.cache_bytes_max is None


def test_what_is_given() -> None:
    flags = JoinFlags(name="reef", share_cores=False, threads=3, cache_max="2GB", gpu="none")
    options = flags.node_options()
    assert (options.name, options.spin, options.threads) == ("reef", None, 3)
    assert (options.cache_bytes_max, options.gpu) == (2_000_000_000, "none")


def test_memory_that_is_lent() -> None:
    assert JoinFlags().node_options().lends_bytes == 0
    assert JoinFlags(memory_only="64MB").node_options().lends_bytes == 64_000_000


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        ("much", "is not a size"),
        ("0", "cannot be lent"),
        ("1MB", "cannot be lent"),
        ("9000TB", "cannot be lent: this machine has"),
    ],
)
def test_memory_that_cannot_be_lent(size: str, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        JoinFlags(memory_only=size).node_options()


def test_a_size_that_is_none() -> None:
    with pytest.raises(BadRequest, match="is not a size"):
        JoinFlags(cache_max="much").node_options()
