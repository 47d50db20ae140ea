"""Requests as a simulation meets them: when they come, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """At `at_s` somebody asks with `prompt` tokens for `answer` tokens.

    `blocks` name what the prompt begins with, block by block: prompts with the same first
    blocks begin alike (Mooncake's `hash_ids`); empty: nothing is known.
    """

    at_s: float
    prompt: int
    answer: int
    blocks: tuple[int, ...] = ()
