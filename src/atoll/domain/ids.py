"""Names of things: every one is a plain string or number with its own type."""

from __future__ import annotations

from typing import NewType

import msgspec

NodeId = NewType("NodeId", str)
"""A node's Ed25519 public key, 64 lower-case hex digits."""

ModelId = NewType("ModelId", str)
"""SHA-256 of a whole GGUF file, 64 lower-case hex digits."""

ShardId = NewType("ShardId", str)
"""SHA-256 of a shard file, 64 lower-case hex digits."""

SessionId = NewType("SessionId", int)
"""One generation; an unguessable 63-bit number chosen by the gateway."""

NO_SESSION = SessionId(0)
"""In reports: what was refused belongs to no session that could be named."""

Slot = NewType("Slot", int)
"""A session's sequence id in the KV cache of every stage, 0 to n_slots - 1."""


class Epoch(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Which plan a frame belongs to: frames of another epoch are dropped.

    `incarnation` rises with each start of the gateway and is kept on its disk;
    `counter` rises with each new plan of one incarnation.
    """

    incarnation: int
    counter: int
