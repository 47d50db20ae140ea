"""Whether a machine that asks in can host a stage of this gateway's ring, or lend its memory."""

from __future__ import annotations

from atoll import __version__
from atoll.domain.control import Join
from atoll.domain.lent_memory import LENT_BYTES_LIMIT, LENT_BYTES_MIN
from atoll.engine.library import ENGINE_BUILD

GIB = 1024**3


def misfit(join: Join, memory_bytes: int) -> tuple[str, str]:
    """Why a machine cannot take part, and what to do about it; empty if it can.

    Args:
        join: What it says of itself.
        memory_bytes: What it must have free for the largest stage.
    """
    if join.lends_bytes:
        return _misfit_lender(join)
    if join.engine_build != ENGINE_BUILD:
        return (
            f"its engine is {join.engine_build}, the gateway's is {ENGINE_BUILD}",
            "install the same version of Atoll; a library of its own must be of that build",
        )
    if other := _other_version(join):
        return other
    if join.memory_free_bytes < memory_bytes:
        missing = (memory_bytes - join.memory_free_bytes) / GIB
        return (
            f"it has {join.memory_free_bytes / GIB:.1f} GiB of memory free, and"
            f" {missing:.1f} GiB more are needed for a stage",
            "end other programs there, or serve with more nodes, fewer streams or a shorter"
            " context",
        )
    return "", ""


def _misfit_lender(join: Join) -> tuple[str, str]:
    """The same for one that only lends memory, for which no engine is needed."""
    if other := _other_version(join):
        return other
    if not LENT_BYTES_MIN <= join.lends_bytes < LENT_BYTES_LIMIT:
        return (
            f"it lends {join.lends_bytes} bytes of memory",
            f"lend {LENT_BYTES_MIN} bytes or more: atoll join --memory-only 8GB",
        )
    return "", ""


def _other_version(join: Join) -> tuple[str, str] | None:
    if join.version.split(".")[:2] == __version__.split(".")[:2]:
        return None
    return (
        f"it runs Atoll {join.version}, the gateway {__version__}",
        "install the same version of Atoll",
    )
