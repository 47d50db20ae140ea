"""What a node may say of itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.support.hand_node import a_join

from atoll.domain.address import Address, HostPort
from atoll.domain.joining import join_problem


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"address": Address(tls=HostPort("", 1))}, ""),
        ({"address": Address(tls=HostPort("", 0))}, "port 0 is out of range"),
        ({"name": "n" * 255}, ""),
        ({"name": "n" * 256}, "a text is longer than 255 characters"),
        ({"secret": "n" * 256}, "a text is longer than 255 characters"),
        ({"lends_bytes": -1}, "a number is out of range"),
        ({"keeps_bytes": 1 << 63}, "a number is out of range"),
        ({"memory_free_bytes": -1}, "a number is out of range"),
    ],
)
def test_what_it_says(changes: dict[str, Any], problem: str) -> None:
    assert join_problem(msgspec.structs.replace(a_join("s", 1), **changes)) == problem
