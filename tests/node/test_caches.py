"""How large a processor's caches are, and going through them."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.node.caches import SIZE_BYTES, SIZE_BYTES_MAX, Caches, last_level_bytes

MIB = 1024**2


def core(folder: Path, *sizes: str) -> Path:
    for i, size in enumerate(sizes):
        index = folder / "cache" / f"index{i}"
        index.mkdir(parents=True)
        (index / "size").write_text(f"{size}\n")
    return folder


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (("48K", "1024K", "32768K"), 32 * MIB),
        (("32K", "2M"), 2 * MIB),
        (("1G",), SIZE_BYTES_MAX),
        (("4096",), 4096),
        ((), SIZE_BYTES),
        (("", "much", "K"), SIZE_BYTES),
        (("much", "16M"), 16 * MIB),
    ],
)
def test_the_largest_level_counts(tmp_path: Path, sizes: tuple[str, ...], expected: int) -> None:
    assert last_level_bytes(core(tmp_path, *sizes)) == expected


def test_a_size_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "cache" / "index0" / "size").mkdir(parents=True)
    assert last_level_bytes(tmp_path) == SIZE_BYTES


def test_going_through_them_changes_all_of_the_memory(tmp_path: Path) -> None:
    caches = Caches(core(tmp_path, "64K"))
    caches.evict()
    caches.evict()
    assert caches._memory.nbytes == 128 * 1024
    assert set(caches._memory.tolist()) == {2}
