"""What the owner of a node may choose."""

from __future__ import annotations

import hashlib
import platform
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from atoll.net.transport import Way
from atoll.node.keeping import Keeping


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How this machine takes part.

    Args:
        name: What the node is called in tables.
        model: The model's file or name; empty: looked up in the store by its hash.
            Or its address (`https://`, `hf:`), from which only layers that the
            node needs are fetched.
        threads: Worker threads of the stage for a lone row: one stream's next token.
        threads_large: Worker threads for several rows: prompts, and several streams.
        host: Address at which the upstream neighbour can reach this node; empty:
            the one from which this machine reaches the gateway.
        port: Port for it; 0 takes any free one.
        way: What may carry links: "tls", "quic", or "auto" for what gets through.
        spin: Iterations that idle worker threads spin where stages share cores,
            which also take turns in short slices; None: the cores are its own.
        cache_bytes_max: What shards and partial downloads may take on the disk
            once this node has its own; None: no bound.
        gpu: `auto`, `none` or a GPU's number (`engine.devices.choose`).
        keeping: What caches of conversations at rest may take, beside the slots.
        lends_bytes: Memory for blobs of others, of a node that computes nothing; 0: it computes.
    """

    name: str
    model: str
    threads: int
    threads_large: int
    host: str = ""
    port: int = 0
    way: Way = "auto"
    spin: int | None = None
    cache_bytes_max: int | None = None
    gpu: str = "auto"
    keeping: Keeping = field(default_factory=Keeping)
    lends_bytes: int = 0


def host_id() -> str:
    """Equal for processes of one machine, and of no use elsewhere: 16 hex digits.

    Nodes that share a machine share its cores, which the schedule has to know.
    """
    machine = Path("/etc/machine-id")
    boot = Path("/proc/sys/kernel/random/boot_id")
    parts = [p.read_text().strip() for p in (machine, boot) if p.is_file()]
    seed = "|".join(parts) or f"{platform.node()}|{uuid.getnode()}"
    return hashlib.sha256(f"atoll-host|{seed}".encode()).hexdigest()[:16]
