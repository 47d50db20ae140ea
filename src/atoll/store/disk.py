"""Room on a disk for what is to come, and the place of what is done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from atoll.domain.errors import PullFailed
from atoll.model.files import sync_folder

DISK_SPARE_BYTES = 256 * 1024 * 1024
"""Room left on the disk whatever is pulled."""


def check_room(folder: Path, needed_bytes: int) -> None:
    """Raise PullFailed unless the disk of `folder` takes `needed_bytes` and some spare."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + DISK_SPARE_BYTES:
        raise PullFailed(
            f"{needed_bytes >> 20} MiB do not fit: {free >> 20} MiB are free at {folder}",
            hint="free some space, or set ATOLL_HOME to a larger disk",
        )


def move_in(path: Path, target: Path) -> None:
    """Give a finished file of the same disk its place, safely on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    path.chmod(0o644)
    path.replace(target)
    sync_folder(target.parent)
