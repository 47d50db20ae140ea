"""Responses of the OpenAI API, as they are sent."""

from __future__ import annotations

import msgspec

from atoll.domain.generation import FinishReason


class PromptDetails(msgspec.Struct, frozen=True):
    """Of the prompt's tokens those that had been computed before."""

    cached_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Tokens of the request: the prompt once, every sampled token of every choice."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails = PromptDetails()


class Candidate(msgspec.Struct, frozen=True):
    """One token with its natural-log probability; `bytes` may be part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, frozen=True):
    """The chosen token, and the best ones at its place, best first."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[Candidate]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """Log-probabilities of a chat completion."""

    content: list[TokenLogprob]
    refusal: None = None


class ChatMessage(msgspec.Struct, frozen=True):
    """The model's message."""

    content: str
    role: str = "assistant"
    refusal: None = None


class ChatChoice(msgspec.Struct, frozen=True):
    """One of the `n` answers."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(msgspec.Struct, frozen=True):
    """Answer of POST /v1/chat/completions without `stream`."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class ChatDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event adds to the message; the role comes first and once."""

    role: str | None = None
    content: str | None = None


class ChatChunkChoice(msgspec.Struct, frozen=True):
    """One choice in an event."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatChunk(msgspec.Struct, frozen=True):
    """One event of a chat stream. `usage` is UNSET unless the client asked for it."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """Log-probabilities of a completion; one entry for each token in every list."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, frozen=True):
    """One completion, or what an event adds to it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None


class Completion(msgspec.Struct, frozen=True):
    """Answer of POST /v1/completions, and each event of its stream."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET


class Model(msgspec.Struct, frozen=True):
    """One entry of GET /v1/models; `context_length` is an extension."""

    id: str
    created: int
    context_length: int
    object: str = "model"
    owned_by: str = "atoll"


class ModelList(msgspec.Struct, frozen=True):
    """GET /v1/models."""

    data: list[Model]
    object: str = "list"


class HealthReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """GET /health."""

    status: str
    reason: str = ""
