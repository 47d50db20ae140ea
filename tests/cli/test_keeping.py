"""Sizes as people write them; the default is a share of the memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.cli.keeping import keeping_of
from atoll.domain.errors import BadRequest
from atoll.node.keeping import RAM_BYTES_MAX, Keeping


def test_what_is_given_counts(tmp_path: Path) -> None:
    assert keeping_of("2GB", "500MB", tmp_path) == Keeping(2 * 10**9, 500 * 10**6, tmp_path)
    assert keeping_of("0", "0", tmp_path).total_bytes == 0


def test_unless_told_a_share_of_the_memory(tmp_path: Path) -> None:
    found = keeping_of("", "0", tmp_path)
    assert 0 < found.ram_bytes <= RAM_BYTES_MAX
    assert found.disk_bytes == 0


@pytest.mark.parametrize(("ram", "disk"), [("much", "0"), ("1GB", ""), ("-1GB", "0")])
def test_what_is_no_size_is_refused(ram: str, disk: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        keeping_of(ram, disk, tmp_path)
