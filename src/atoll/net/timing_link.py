"""The kind of link on which two nodes time the way between them."""

from __future__ import annotations

from atoll.domain.timing import TIMING_BYTES_MAX, TimingMessage, hail_problem
from atoll.net.link import TIMING
from atoll.net.message_link import Speech, StreamMessageLink


class StreamTimingLink(StreamMessageLink[TimingMessage]):
    """A `TimingLink` over a stream."""

    kind = TIMING
    speech = Speech[TimingMessage]("timing", TimingMessage, hail_problem, TIMING_BYTES_MAX)
