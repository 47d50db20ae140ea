"""What `atoll serve` and `atoll join` may take for conversations at rest."""

from __future__ import annotations

from pathlib import Path

import psutil

from atoll.node.keeping import Keeping, ram_bytes_default
from atoll.store.cache import size_bytes_of


def keeping_of(ram: str, disk: str, folder: Path) -> Keeping:
    """From what a person wrote; an empty `ram` is a share of the memory that is free now.

    Raises:
        BadRequest: One of them is not a size.
    """
    free_bytes = psutil.virtual_memory().available
    ram_bytes = size_bytes_of(ram) if ram else ram_bytes_default(free_bytes)
    return Keeping(ram_bytes, size_bytes_of(disk), folder)
