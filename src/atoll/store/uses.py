"""Which files of the store a running process uses: a shared lock beside each, `<name>.use`.

The lock ends with its process, however that ends. The lock file's date is
when the file was last taken into use.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class Hold:
    """A file that is in use until `release`."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def release(self) -> None:
        """The file is no longer in use; again it does nothing."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def hold(path: Path) -> Hold:
    """Take the file at `path` into use, be it there already or not; its folder is made.

    Raises:
        OSError: Its folder cannot be written.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(use_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        os.utime(fd)
    except BaseException:
        os.close(fd)
        raise
    return Hold(fd)


def use_path(path: Path) -> Path:
    """The lock file of the file at `path`."""
    return path.with_suffix(".use")


@contextmanager
def claimed(locks: Sequence[Path]) -> Iterator[bool]:
    """Keep others from all these lock files inside the block; tells whether that could be had.

    It does not wait: where one of them is held, it is told so at once.
    """
    fds: list[int] = []
    try:
        for path in locks:
            fds.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            try:
                fcntl.flock(fds[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
        yield True
    finally:
        for fd in fds:
            os.close(fd)
