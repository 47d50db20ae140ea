"""What may be in the messages about a shard that is fetched before its plan comes."""

from __future__ import annotations

from atoll.domain.address import check
from atoll.domain.control import NotPrefetched, Prefetch, Prefetched, Prefetching
from atoll.domain.errors import ProtocolFault
from atoll.domain.measure import BYTES_LIMIT, LAYERS_MAX, is_hash

SOURCES_MAX = 16
NUMBER_LIMIT = 1 << 63


def prefetch_problem(message: Prefetch | Prefetching | Prefetched | NotPrefetched) -> str:
    """What is wrong with such a message; empty if nothing is."""
    if not 0 <= message.number < NUMBER_LIMIT:
        return "its number is out of range"
    match message:
        case Prefetch():
            return _order_problem(message)
        case Prefetching(_, here_bytes, size_bytes):
            # An address that does not say how large its file is leaves the size at 0.
            if not (0 <= here_bytes < BYTES_LIMIT and 0 <= size_bytes < BYTES_LIMIT):
                return "a size in it is out of range"
    return ""


def _order_problem(order: Prefetch) -> str:
    if not (is_hash(order.model) and is_hash(order.shard)):
        return "a model or shard in it is no hash"
    if not 0 < order.n_layers <= LAYERS_MAX:
        return f"a model of {order.n_layers} layers"
    if not 0 <= order.first < order.last <= order.n_layers:
        return "layers that the model does not have"
    if not 0 <= order.data_offset < BYTES_LIMIT or not 0 < order.size_bytes < BYTES_LIMIT:
        return "a size in it is out of range"
    if len(order.sources) > SOURCES_MAX:
        return f"{len(order.sources)} sources, allowed are {SOURCES_MAX}"
    for source in order.sources:
        if not is_hash(source.node):
            return "a source that is no key"
        try:
            check(source.address)
        except ProtocolFault as fault:
            return fault.problem
    return ""
