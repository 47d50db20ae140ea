from __future__ import annotations

import pytest

from atoll.net.blake3 import _IV, derive_key, one_block


def test_known_hash() -> None:
    """Of no bytes at all, from BLAKE3's own test vectors."""
    known = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert one_block(_IV, b"").hex() == known


def test_keys_differ_by_context_and_material() -> None:
    """That they are BLAKE3's is shown in test_relay.py, by clients that are not ours."""
    keys = {derive_key(c, m) for c in (b"a", b"b") for m in (b"", b"\x00", b"x" * 64)}
    assert len(keys) == 6
    assert {len(key) for key in keys} == {32}


def test_more_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="more than one block"):
        derive_key(b"x" * 65, b"")
