"""A running gateway's mark in its home: where it listens, and a key for this machine's tools.

    HOME/run/gateway.json   its address; mode 0600, as it holds a key

The key is made when the gateway starts and revoked when it ends, so that
`atoll status` and `atoll chat` of the same user need no set-up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from atoll.net.home import is_home_held
from atoll.net.private_file import PrivateFileFault, read_private, write_private

RUN_FILE_BYTES_MAX = 64 * 1024


class RunFile(msgspec.Struct, frozen=True):
    """Where a gateway is: for users (`url`, `key`), and for nodes (its own key, `gateway`,
    `addresses`, `udp_port`, `relay`). `key` is empty where it asks for none.
    """

    url: str
    pid: int
    model: str
    key: str = ""
    certificate: str = ""
    gateway: str = ""
    addresses: tuple[str, ...] = ()
    udp_port: int = 0
    relay: str = ""

    def __repr__(self) -> str:
        return f"RunFile(url={self.url!r}, pid={self.pid}, model={self.model!r})"


def run_file_path(home: Path) -> Path:
    """Where the run file of a gateway with this home lies."""
    return home / "run" / "gateway.json"


@contextmanager
def kept_run_file(home: Path, content: RunFile) -> Iterator[Path]:
    """Have the run file there inside the block.

    Raises:
        PrivateFileFault: It cannot be written.
    """
    path = run_file_path(home)
    write_private(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n", replace=True)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def read_run_file(home: Path) -> RunFile | None:
    """The run file of `home`; None where no gateway runs.

    A file that a killed gateway left behind is told by the lock, which ended
    with its process.

    Raises:
        PrivateFileFault: It is open to others, or malformed.
    """
    try:
        content = read_private(run_file_path(home), bytes_max=RUN_FILE_BYTES_MAX)
    except FileNotFoundError:
        return None
    if not is_home_held(home, "gateway"):
        return None
    try:
        return msgspec.json.decode(content, type=RunFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PrivateFileFault(
            f"{run_file_path(home)} cannot be read: {error}", hint="start the gateway again"
        ) from error
