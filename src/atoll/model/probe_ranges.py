"""Which layers of a model stand for all of them when a machine is measured.

Pure. Layers in the middle, where the model may be cut; few, as a machine that
has nothing yet must fetch them.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.model.manifest import Manifest, weight_bytes

MIB = 1024**2
LONG_PIECES = ((8, 32 * MIB), (3, 256 * MIB), (2, 256 * MIB))
"""Pieces between cuts of the long shard, one layer each for most architectures, and what both
shards together may hold then. Small layers take so little that the difference of one and
three drowns in noise: eight make it plain. A layer of a large model takes so long that what a
step takes besides hardly matters: then the short shard is enough."""

Layers = tuple[int, int]


def probe_ranges(manifest: Manifest, boundaries: Sequence[int]) -> tuple[Layers, Layers | None]:
    """The short shard's layers, and the long one's if there is to be one.

    Args:
        manifest: The model in numbers.
        boundaries: Where it may be cut, with 0 and the number of layers.

    Returns:
        Two half-open ranges that begin at the same layer.
    """
    pieces = len(boundaries) - 1
    for n, bytes_max in LONG_PIECES:
        # A shard of all layers would be the whole model, with vocabulary and head.
        if n >= pieces:
            continue
        at = (pieces - n) // 2
        first, short, long = boundaries[at], boundaries[at + 1], boundaries[at + n]
        size_bytes = sum(weight_bytes(manifest, first, last) for last in (short, long))
        if size_bytes <= bytes_max:
            return (first, short), (first, long)
    at = (pieces - 1) // 2
    return (boundaries[at], boundaries[at + 1]), None
