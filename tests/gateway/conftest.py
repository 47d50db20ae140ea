"""A real gateway that serves a small random model."""

from tests.support.small_gateway import (  # noqa: F401
    hand_node,
    open_ring_gateway,
    ring_gateway,
    said,
    small_model,
    small_store,
)
