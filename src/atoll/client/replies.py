"""What an OpenAI-compatible API answers, as far as we read it.

Unknown fields are tolerated: other servers send more than ours.
"""

from __future__ import annotations

import msgspec


class ModelEntry(msgspec.Struct, frozen=True):
    """A served model."""

    id: str


class ModelList(msgspec.Struct, frozen=True):
    """The answer of `GET /v1/models`."""

    data: tuple[ModelEntry, ...]


class HealthReply(msgspec.Struct, frozen=True):
    """The answer of `GET /health`."""

    status: str
    reason: str | None = None


class TokenEntry(msgspec.Struct, frozen=True):
    """A token with its log-probability and its bytes."""

    token: str
    logprob: float = 0.0
    bytes: tuple[int, ...] | None = None


class Logprobs(msgspec.Struct, frozen=True):
    """The tokens that a chunk adds."""

    content: tuple[TokenEntry, ...] | None = None


class Delta(msgspec.Struct, frozen=True):
    """The text that a chunk adds."""

    content: str | None = None


class ChunkChoice(msgspec.Struct, frozen=True):
    """One choice of a chunk."""

    delta: Delta
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Usage(msgspec.Struct, frozen=True):
    """Tokens of a request."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong."""

    message: str
    type: str | None = None
    code: str | int | None = None


class ErrorReply(msgspec.Struct, frozen=True):
    """An error in OpenAI's form."""

    error: ErrorBody


class Chunk(msgspec.Struct, frozen=True):
    """One event of a streamed chat; `error` where it ended badly."""

    choices: tuple[ChunkChoice, ...] = ()
    usage: Usage | None = None
    error: ErrorBody | None = None


class CompletionPart(msgspec.Struct, frozen=True):
    """The text that an event adds to a completion."""

    text: str | None = None
    finish_reason: str | None = None


class CompletionChunk(msgspec.Struct, frozen=True):
    """One event of a streamed completion; `error` where it ended badly."""

    choices: tuple[CompletionPart, ...] = ()
    usage: Usage | None = None
    error: ErrorBody | None = None
