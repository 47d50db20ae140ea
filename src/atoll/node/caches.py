"""The processor's caches, emptied of what a stage left in them.

A layer or three of a small model stay in the caches from one call to the next. A
stage of many layers does not fit there, and other stages and programs run in
between; a layer timed warm took two thirds of what it takes in a ring.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CPU = Path("/sys/devices/system/cpu/cpu0")
SIZE_BYTES = 32 * 1024**2
"""Where the system does not tell."""
SIZE_BYTES_MAX = 256 * 1024**2
UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


class Caches:
    """Memory of twice the size of the last level, which `evict` goes through.

    Args:
        cpu: Where Linux tells of a core.
    """

    def __init__(self, cpu: Path = CPU) -> None:
        self._memory = np.zeros(2 * last_level_bytes(cpu) // 8, np.uint64)

    def evict(self) -> None:
        """Take the place of whatever is in the caches; a few milliseconds."""
        self._memory += np.uint64(1)


def last_level_bytes(cpu: Path = CPU) -> int:
    """Size of the largest cache that a core has a part in."""
    found = [_bytes_of(path) for path in cpu.glob("cache/index*/size")]
    return min(max(found, default=0) or SIZE_BYTES, SIZE_BYTES_MAX)


def _bytes_of(path: Path) -> int:
    """What a file like `32768K` says; 0 if it cannot be understood."""
    try:
        text = path.read_text().strip()
        return int(text.rstrip("KMG")) * UNITS.get(text[-1:], 1)
    except (OSError, ValueError):
        return 0
