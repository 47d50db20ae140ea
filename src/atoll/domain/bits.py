"""The numeric class of a part of a model: which bits an engine computes for it."""

from __future__ import annotations

import msgspec


class Bits(msgspec.Struct, frozen=True, array_like=True):
    """What exact rows of a part come to on one machine.

    Machines whose `digest` for the same part is equal compute equal bits. `together`:
    rows computed in one call have the bits of rows computed alone; where they have not
    exact rows are computed one by one.
    """

    digest: str
    together: bool
