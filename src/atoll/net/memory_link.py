"""The kind of link on which blobs go to a node that lends its memory, and come back."""

from __future__ import annotations

from atoll.domain.lent_memory import MEMORY_BYTES_MAX, MemoryMessage, memory_problem
from atoll.net.link import MEMORY
from atoll.net.message_link import Speech, StreamMessageLink

MEMORY_SPEECH = Speech[MemoryMessage]("memory", MemoryMessage, memory_problem, MEMORY_BYTES_MAX)


class StreamMemoryLink(StreamMessageLink[MemoryMessage]):
    """A `MemoryLink` over a stream."""

    kind = MEMORY
    speech = MEMORY_SPEECH
