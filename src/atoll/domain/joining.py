"""What a node may say of itself when it asks in."""

from __future__ import annotations

from atoll.domain.address import check
from atoll.domain.control import Join
from atoll.domain.errors import ProtocolFault

TEXT_CHARS_MAX = 255
NUMBER_LIMIT = 1 << 63


def join_problem(join: Join) -> str:
    """What is wrong with it; empty if nothing is."""
    try:
        check(join.address, may_be_open=True)
    except ProtocolFault as fault:
        return fault.problem
    texts = (join.name, join.host_id, join.engine_build, join.secret, join.version)
    if max(map(len, texts)) > TEXT_CHARS_MAX:
        return f"a text is longer than {TEXT_CHARS_MAX} characters"
    sizes = (join.memory_free_bytes, join.keeps_bytes, join.lends_bytes)
    return "" if all(0 <= n < NUMBER_LIMIT for n in sizes) else "a number is out of range"
