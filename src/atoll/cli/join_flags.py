"""Options of `atoll join`, which a service of the system is made with too."""

from __future__ import annotations

import platform
from typing import Annotated

import psutil
from cyclopts import Parameter
from cyclopts.types import NonNegativeInt
from cyclopts.validators import Number

from atoll.cli.keeping import keeping_of
from atoll.cli.settings import HomeFlags, StoreFlags, check_gpu, check_interface, flags
from atoll.domain.errors import BadRequest
from atoll.domain.lent_memory import LENT_BYTES_LIMIT, LENT_BYTES_MIN
from atoll.engine.threads import SHARED_SPIN, stage_threads
from atoll.net.transport import Way
from atoll.node.options import NodeOptions
from atoll.node.returning import WAIT_S
from atoll.store.cache import size_bytes_of

PARCELS_FOLDER = "parcels-node"


@flags
class JoinFlags(HomeFlags, StoreFlags):
    """Options of `atoll join`."""

    name: str = ""
    """What to call this node in tables. Default: the host's name."""

    model: str = ""
    """The model, as a file or a name; or an address (`https://...`, `hf:ORG/REPO/FILE.gguf`), of
    which only this node's layers are fetched. Default: looked up in the store by its hash; if it
    is not there, the gateway sends this node's layers."""

    threads: NonNegativeInt = 0
    """Worker threads of the stage for a single stream. 0: all cores, up to 4."""

    threads_large: NonNegativeInt = 0
    """Worker threads of the stage for prompts and several streams. 0: all cores, up to 4."""

    share_cores: Annotated[bool, Parameter(negative="--own-cores")] = True
    """Whether other stages run on this machine's cores; its threads then yield sooner."""

    gpu: Annotated[str, Parameter(validator=check_gpu)] = "auto"
    """What computes the stage: `auto` (a GPU that has room, else the processor), `none`
    (the processor), or a GPU's number."""

    link: Way = "auto"
    """What carries links: `tls` over TCP, `quic` over UDP, or `auto` for what gets through."""

    host: str = ""
    """Address at which the other nodes reach this machine. Default: the one from which it
    reaches the gateway."""

    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 0
    """Port for them; 0 takes any free one."""

    cache_max: str = ""
    """What shards and partial downloads may take on the disk, such as 20GB; the least recently
    used ones make room for this node's. Default: no bound."""

    cache_ram: str = ""
    """Memory for the caches of conversations at rest, encrypted, such as 2GB; 0: none is kept.
    Default: an eighth of what is free, 4 GiB at most."""

    cache_disk: str = "0"
    """The same on the disk, in the home, for what the memory cannot hold. Default: none."""

    memory_only: str = ""
    """Compute nothing, and lend this much memory instead, such as 8GB: there nodes and gateway
    keep the encrypted caches of conversations that rest."""

    wait: NonNegativeInt = WAIT_S
    """Seconds for which a node whose gateway is gone tries to come back to it, as after a restart
    of the gateway; 0: it ends at once."""

    gateway: str = ""
    """Without a ticket: which gateway of this network to ask, by its name or the beginning of its
    key. Default: the only one there is."""

    look_on: Annotated[str, Parameter(validator=check_interface)] = ""
    """IPv4 address of the network interface to look for gateways on. Default: all."""

    read_code: bool = False
    """Without a ticket: take the code that the gateway shows from standard input, and go on if it
    is the same, in place of asking."""

    def node_options(self) -> NodeOptions:
        """For the node."""
        return NodeOptions(
            name=self.name or platform.node(),
            model=self.model,
            threads=stage_threads(self.threads),
            threads_large=stage_threads(self.threads_large),
            host=self.host,
            port=self.port,
            way=self.link,
            spin=SHARED_SPIN if self.share_cores else None,
            cache_bytes_max=size_bytes_of(self.cache_max) if self.cache_max else None,
            gpu=self.gpu,
            keeping=keeping_of(self.cache_ram, self.cache_disk, self.home_dir() / PARCELS_FOLDER),
            lends_bytes=_lent_bytes_of(self.memory_only) if self.memory_only else 0,
        )


def _lent_bytes_of(text: str) -> int:
    """How much is lent.

    Raises:
        BadRequest: It is no size, or none that can be lent.
    """
    lent_bytes = size_bytes_of(text)
    total_bytes = psutil.virtual_memory().total
    if not LENT_BYTES_MIN <= lent_bytes < min(LENT_BYTES_LIMIT, total_bytes):
        raise BadRequest(
            f"{text} of memory cannot be lent: this machine has {total_bytes / 1e9:.1f} GB",
            hint="lend 2MB or more, and leave the machine what it needs itself",
        )
    return lent_bytes
