"""What keeps a fleet from serving one more stream, and the figure that it meets there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from atoll.forecast.targets import Target

Bound = Literal["memory", "tpot", "ttft", "sessions", "scheduler", "known", "prompts"]
"""Memory for caches, the time per token or to the first token that was asked for, sessions that
a stage holds, streams that a server's software takes at once, how far forecasts go, and how
many prompts those machines compute that do nothing else.
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """What one more stream would break; `figure` says it in words, without a full stop."""

    bound: Bound
    figure: str


def most(room: int, is_met: Callable[[int], bool]) -> int:
    """The largest number up to `room` that is met, where all below it are; 0: not even one."""
    if not is_met(1):
        return 0
    low, high = 1, room
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if is_met(middle) else (low, middle - 1)
    return low


def late_limit(target: Target, first_s: float, token_s: float, load: str) -> Limit | None:
    """The bound of the target that is missed, None: it is met.

    Args:
        target: What was asked for.
        first_s: Time to the first token, seconds.
        token_s: Time per token, seconds.
        load: With how many streams these times are, in words.
    """
    if target.ttft_s and first_s > target.ttft_s:
        asked = f"the {target.ttft_s:.4g} s asked for"
        figure = f"the first token takes {first_s:.5g} s {load}, longer than {asked}"
        return Limit("ttft", figure)
    if target.tpot_s and token_s > target.tpot_s:
        asked = f"the {1e3 * target.tpot_s:.4g} ms asked for"
        figure = f"a token takes {1e3 * token_s:.5g} ms {load}, longer than {asked}"
        return Limit("tpot", figure)
    return None


def memory_limit(free: float, cached: float, where: str = "") -> Limit:
    """Memory for caches is full.

    Args:
        free: Beside the weights, bytes.
        cached: Of a stream with all its tokens, bytes.
        where: Whose memory it is, in words; empty: the whole fleet's.
    """
    n = int(free / cached)
    caches = f"{free / 2**30:,.1f} GiB for caches" + (f" {where}" if where else "")
    if not n:
        return Limit("memory", f"{caches}, and those of a stream take {cached / 2**30:,.1f} GiB")
    return Limit("memory", f"{caches}, full with {n:,} stream{'' if n == 1 else 's'}")
