"""POST /v1/chat/completions."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence

import msgspec

from atoll.api.backend import ChatTurn, ModelCard, Role, TemplateValue, TextBackend
from atoll.api.choices import Delta, Entry
from atoll.api.form import Finished
from atoll.api.limits import Limits
from atoll.api.params import (
    Job,
    check_model,
    check_stream_options,
    generations,
    sampling_of,
    stops_of,
)
from atoll.api.replies import (
    Candidate,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    TokenLogprob,
    Usage,
)
from atoll.api.schema import ChatRequest, Message, decode_chat
from atoll.domain.errors import BadRequest
from atoll.domain.generation import FinishReason, Sampled

LOGPROB_MIN = -9999.0
"""JSON has no infinity; OpenAI's API writes this for a token that is all but impossible."""

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}

TEMPLATE_RESERVED = frozenset(
    {
        "messages",
        "tools",
        "documents",
        "add_generation_prompt",
        "continue_final_message",
        "bos_token",
        "eos_token",
    }
)
"""Template variables that the gateway itself sets."""

_encode = msgspec.json.Encoder().encode


async def chat_job(body: bytes, text: TextBackend, card: ModelCard, limits: Limits) -> Job:
    """Decode a chat request and render its prompt.

    Raises:
        BadRequest: The request cannot be served as it stands.
        ApiError: The model is unknown.
    """
    request = decode_chat(body)
    check_model(request.model, card)
    include_usage = check_stream_options(request)
    logprobs = _logprobs(request)
    sampling = sampling_of(request, card, logprobs)
    max_tokens = _max_tokens(request)
    turns = _turns(request.messages, limits)
    prompt = await text.chat_tokens(turns, extra=_template_args(request))
    requests = generations(
        [prompt],
        request,
        sampling=sampling,
        max_tokens=max_tokens,
        card=card,
        param="messages",
    )
    return Job(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        created=int(time.time()),
        requests=requests,
        stops=stops_of(request),
        prompt_tokens=len(prompt),
        stream=bool(request.stream),
        include_usage=include_usage,
        logprobs=logprobs is not None,
        deadline_s=request.deadline_s,
    )


def _logprobs(request: ChatRequest) -> int | None:
    if request.logprobs:
        return request.top_logprobs or 0
    if request.top_logprobs:
        raise BadRequest("top_logprobs needs logprobs = true", param="top_logprobs")
    return None


def _max_tokens(request: ChatRequest) -> int | None:
    old, new = request.max_tokens, request.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise BadRequest(
            "max_tokens and max_completion_tokens differ",
            hint="send only max_completion_tokens",
            param="max_tokens",
        )
    return old if new is None else new


def _template_args(request: ChatRequest) -> Mapping[str, TemplateValue]:
    args = request.chat_template_kwargs or {}
    for name in args:
        if name in TEMPLATE_RESERVED or not name.isidentifier() or name.startswith("_"):
            raise BadRequest(
                f"chat_template_kwargs cannot set {name[:64]!r}", param="chat_template_kwargs"
            )
    return args


def _turns(messages: Sequence[Message], limits: Limits) -> list[ChatTurn]:
    if len(messages) > limits.messages_max:
        raise BadRequest(
            f"{len(messages)} messages are more than the {limits.messages_max} allowed",
            hint="shorten the conversation",
            param="messages",
        )
    return [_turn(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _turn(message: Message, path: str) -> ChatTurn:
    role = ROLES.get(message.role)
    if role is None:
        raise BadRequest(
            f"the role {message.role!r} is not served",
            hint=f"use one of {', '.join(ROLES)}",
            param=f"{path}.role",
        )
    content = message.content
    if isinstance(content, str):
        return ChatTurn(role, content)
    if content is None:
        if role != "assistant":
            raise BadRequest(f"{path} has no content", param=f"{path}.content")
        return ChatTurn(role, "")
    parts: list[str] = []
    for index, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise BadRequest(
                f"a content part of type {part.type!r} is not served",
                hint="send parts of type 'text' with a 'text'",
                param=f"{path}.content[{index}].type",
            )
        parts.append(part.text)
    return ChatTurn(role, "".join(parts))


class ChatForm:
    """Writes answers of the chat endpoint.

    The frequent event, text alone, is put together from two constant parts
    and the encoded text; all others are encoded structs.
    """

    def __init__(self, job: Job, card: ModelCard, fingerprint: str) -> None:
        self._job = job
        self._model = card.name
        self._fingerprint = fingerprint
        self._frames = [
            _split(self._chunk(ChatChunkChoice(index, ChatDelta(content=""))), b'"content":""')
            for index in range(len(job.requests))
        ]

    def _chunk(self, choice: ChatChunkChoice | None, usage: Usage | None = None) -> bytes:
        return _encode(
            ChatChunk(
                id=self._job.id,
                object="chat.completion.chunk",
                created=self._job.created,
                model=self._model,
                system_fingerprint=self._fingerprint,
                choices=[] if choice is None else [choice],
                usage=usage if self._job.include_usage else msgspec.UNSET,
            )
        )

    def opening(self, index: int) -> bytes:
        """The role."""
        return self._chunk(ChatChunkChoice(index, ChatDelta(role="assistant", content="")))

    def delta(self, index: int, delta: Delta) -> bytes:
        """Text, and log-probabilities where asked for."""
        if not self._job.logprobs:
            before, after = self._frames[index]
            return before + _encode(delta.text) + after
        content = ChatDelta(content=delta.text)
        return self._chunk(ChatChunkChoice(index, content, chat_logprobs(delta.entries)))

    def closing(self, index: int, finish: FinishReason) -> bytes:
        """Why the choice ended."""
        return self._chunk(ChatChunkChoice(index, ChatDelta(), finish_reason=finish))

    def usage(self, usage: Usage) -> bytes:
        """Usage, with no choice."""
        return self._chunk(None, usage)

    def whole(self, choices: Sequence[Finished], usage: Usage) -> bytes:
        """The answer without streaming."""
        return _encode(
            ChatCompletion(
                id=self._job.id,
                object="chat.completion",
                created=self._job.created,
                model=self._model,
                system_fingerprint=self._fingerprint,
                choices=[
                    ChatChoice(
                        index,
                        ChatMessage("".join(done.text)),
                        chat_logprobs(done.entries) if self._job.logprobs else None,
                        done.finish,
                    )
                    for index, done in enumerate(choices)
                ],
                usage=usage,
            )
        )


def _split(frame: bytes, hole: bytes) -> tuple[bytes, bytes]:
    """Cut `frame` around the last `hole`'s empty string; earlier ones may be in names."""
    before, found, after = frame.rpartition(hole)
    assert found, "the frame has no place for the text"
    return before + hole[:-2], after


def chat_logprobs(entries: Sequence[Entry]) -> ChatLogprobs:
    """Log-probabilities in the form of the chat endpoint."""
    return ChatLogprobs([_token_logprob(entry.sampled) for entry in entries])


def _token_logprob(sampled: Sampled) -> TokenLogprob:
    return TokenLogprob(
        token=sampled.piece.decode(errors="replace"),
        logprob=finite(sampled.logprob),
        bytes=list(sampled.piece),
        top_logprobs=[
            Candidate(top.piece.decode(errors="replace"), finite(top.logprob), list(top.piece))
            for top in sampled.top
        ],
    )


def finite(logprob: float | None) -> float:
    """A log-probability that JSON can carry."""
    if logprob is None:
        raise RuntimeError("the ring was asked for log-probabilities and sent none")
    return max(logprob, LOGPROB_MIN)
