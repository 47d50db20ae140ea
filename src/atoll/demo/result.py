"""What a demo found."""

from __future__ import annotations

import msgspec

from atoll.gateway.status import LapStatus


class DemoStage(msgspec.Struct, frozen=True):
    """One stage; layers [first, last). `ms_per_token` covers engine, pipe and node."""

    node: str
    first: int
    last: int
    shard_bytes: int
    memory_bytes: int
    ms_per_token: float


class DemoResult(msgspec.Struct, frozen=True):
    """The demo in numbers.

    `tokens_per_s` is of the answer as the client saw it, after its first
    token; `equal` of `compared` greedy tokens were the whole model's.
    """

    model: str
    prompt: str
    answer: str
    prompt_tokens: int
    completion_tokens: int
    start_s: float
    first_token_ms: float
    tokens_per_s: float
    whole_tokens_per_s: float
    compared: int
    equal: int
    threads: int
    gateway_memory_bytes: int
    ends: tuple[tuple[int, int], ...]
    stages: tuple[DemoStage, ...]
    lap: LapStatus | None

    @property
    def is_equal(self) -> bool:
        """Whether every token was the whole model's."""
        return 0 < self.compared == self.equal
