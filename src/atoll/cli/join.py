"""`atoll join`: host a stage on this machine."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt
from cyclopts.validators import Number

from atoll.cli.running import run_until_stopped
from atoll.cli.screen import say
from atoll.cli.settings import HomeFlags, StoreFlags, check_gpu, flags
from atoll.engine.threads import SHARED_SPIN, stage_threads
from atoll.net.home import held_home
from atoll.net.identity import Identity
from atoll.net.join_file import JOIN_FILE_BYTES_MAX, JoinFile
from atoll.node.daemon import NodeDaemon
from atoll.node.options import NodeOptions

IDENTITY_FILE = "node.pem"
STANDARD_INPUT = "-"


@flags
class JoinFlags(HomeFlags, StoreFlags):
    """Options of `atoll join`."""

    name: str = ""
    """What to call this node in tables. Default: the host's name."""

    model: str = ""
    """The model, as a file or a name. Default: looked up in the store by its hash."""

    threads: NonNegativeInt = 0
    """Worker threads of the stage for a single stream. 0: all cores, up to 4."""

    threads_large: NonNegativeInt = 0
    """Worker threads of the stage for prompts and several streams. 0: all cores, up to 4."""

    share_cores: Annotated[bool, Parameter(negative="--own-cores")] = True
    """Whether other stages run on this machine's cores; its threads then yield sooner."""

    gpu: Annotated[str, Parameter(validator=check_gpu)] = "auto"
    """What computes the stage: `auto` (a GPU that has room, else the processor), `none`
    (the processor), or a GPU's number."""

    host: str = "127.0.0.1"
    """Address at which the other nodes reach this machine."""

    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 0
    """Port for them; 0 takes any free one."""

    def node_options(self) -> NodeOptions:
        """For the node."""
        return NodeOptions(
            name=self.name or platform.node(),
            model=self.model,
            threads=stage_threads(self.threads),
            threads_large=stage_threads(self.threads_large),
            host=self.host,
            port=self.port,
            spin=SHARED_SPIN if self.share_cores else None,
            gpu=self.gpu,
        )


def check_no_flag(_type: type, value: str) -> None:
    """Refuse an unknown flag that a leading hyphen lets pass as a file.

    Raises:
        ValueError: It begins with a hyphen and is not `-` alone.
    """
    if value.startswith("-") and value != STANDARD_INPUT:
        raise ValueError(f"there is no option {value}")


def join(
    file: Annotated[str, Parameter(allow_leading_hyphen=True, validator=check_no_flag)],
    /,
    *,
    options: JoinFlags | None = None,
) -> None:
    """Join a ring: host a part of its model on this machine.

    The gateway writes a join file for each node; it is a secret and good for one join. This
    machine needs the model too (`atoll pull`), and cuts its own part of it. The node runs
    until the gateway says goodbye; stop it with Ctrl-C. Two nodes on one machine need
    different homes (`--home`), as the home holds the node's identity.

    Example: `atoll join node-1.join`

    Example: `ssh gateway cat node-1.join | atoll join -`

    Args:
        file: The join file, or `-` for standard input.
    """
    options = options or JoinFlags()
    home, store = options.home_dir(), options.open_store()
    invitation = read_join_file(file)
    with held_home(home, "node"):
        daemon = NodeDaemon(
            Identity.load_or_create(home / IDENTITY_FILE), store, options.node_options(), tell=say
        )
        stopped = run_until_stopped(daemon.run(invitation))
    if stopped is not None:
        say(f"stopped by {stopped.name}")


def read_join_file(file: str) -> JoinFile:
    """The join file named, or the one on standard input.

    Raises:
        PrivateFileFault: It is missing, malformed, or open to others.
    """
    if file == STANDARD_INPUT:
        content = sys.stdin.buffer.read(JOIN_FILE_BYTES_MAX + 1)
        return JoinFile.parse(content.decode("utf-8", "replace"))
    return JoinFile.load(Path(file).expanduser())
