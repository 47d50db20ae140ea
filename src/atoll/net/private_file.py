"""Files that hold a secret: readable by their owner alone, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from atoll.domain.errors import AtollError


class PrivateFileFault(AtollError):
    """A secret's file that is missing, malformed, or open to others."""

    exit_code = 6


def read_private(path: Path, *, bytes_max: int) -> bytes:
    """The content of a file that only its owner, who is us, can read.

    The checks are made on the opened file, so that it cannot be exchanged
    between check and read.

    Raises:
        FileNotFoundError: There is no such file.
        PrivateFileFault: It is a link or no regular file, belongs to somebody
            else, gives rights to group or others, is longer than `bytes_max`,
            or cannot be read.
    """
    try:
        # O_NONBLOCK: opening a named pipe must not wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PrivateFileFault(
            f"cannot open {path}: {error.strerror}", hint="it must be a plain file of yours"
        ) from error
    try:
        _check_ours_alone(path, os.fstat(fd))
        with open(fd, "rb", closefd=False) as file:
            content = file.read(bytes_max + 1)
    finally:
        os.close(fd)
    if len(content) > bytes_max:
        raise PrivateFileFault(
            f"{path} is longer than {bytes_max} bytes", hint="this is not the file meant here"
        )
    return content


def _check_ours_alone(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PrivateFileFault(f"{path} is not a regular file", hint="name another file")
    if status.st_uid != os.geteuid():
        raise PrivateFileFault(
            f"{path} belongs to user id {status.st_uid}, not to you",
            hint="run as its owner, or name a file of your own",
        )
    if status.st_mode & 0o077:
        raise PrivateFileFault(
            f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"if nobody else read it: chmod 600 {path}; otherwise make a new one",
        )


def write_private(path: Path, content: bytes, *, replace: bool) -> None:
    """Write `content` to `path` with mode 0600, all or nothing, and onto the disk.

    Args:
        replace: Whether a file already there is replaced. Where it is not, of
            two writers exactly one wins.

    Raises:
        FileExistsError: There is a file and `replace` is false.
        PrivateFileFault: The folder cannot be made or written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(content)
                file.flush()
                os.fsync(fd)
            if replace:
                part.replace(path)
            else:
                os.link(part, path)
        finally:
            part.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> PrivateFileFault:
    return PrivateFileFault(
        f"cannot write {path}: {error.strerror}", hint="name a folder you can write to"
    )


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
