"""A home folder: one gateway and one node may use it at a time.

HOME/run/<role>.lock   held while a process of that role runs
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from atoll.domain.errors import AtollError
from atoll.net.private_file import PrivateFileFault

Role = Literal["gateway", "node"]


class HomeInUse(AtollError):
    """Another process runs with the same home."""

    exit_code = 2


@contextmanager
def held_home(home: Path, role: Role) -> Iterator[None]:
    """Keep other processes of the same role from using `home` inside the block.

    Raises:
        HomeInUse: One does already.
        PrivateFileFault: The folder cannot be used.
    """
    path = _lock_path(home, role)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PrivateFileFault(
            f"cannot use {path.parent}: {error.strerror}", hint="choose another --home"
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUse(
                f"a {role} already runs with the home {home}",
                hint="stop it, or give this one a home of its own with --home DIR",
            ) from None
        yield
    finally:
        os.close(fd)


def is_home_held(home: Path, role: Role) -> bool:
    """Whether a process of that role runs with `home`.

    Raises:
        PrivateFileFault: Its lock cannot be read.
    """
    path = _lock_path(home, role)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise PrivateFileFault(f"cannot open {path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _lock_path(home: Path, role: Role) -> Path:
    return home / "run" / f"{role}.lock"
