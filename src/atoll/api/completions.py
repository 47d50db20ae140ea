"""POST /v1/completions."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import msgspec

from atoll.api.backend import ModelCard, TextBackend
from atoll.api.chat import finite
from atoll.api.choices import Delta, Entry
from atoll.api.form import Finished
from atoll.api.limits import CHOICES_MAX
from atoll.api.params import (
    Job,
    check_model,
    check_stream_options,
    generations,
    sampling_of,
    stops_of,
)
from atoll.api.replies import Completion, CompletionChoice, CompletionLogprobs, Usage
from atoll.api.schema import decode_completion
from atoll.domain.errors import BadRequest
from atoll.domain.generation import FinishReason

MAX_TOKENS_DEFAULT = 16
"""OpenAI's default for this endpoint."""

_encode = msgspec.json.Encoder().encode


async def completion_job(body: bytes, text: TextBackend, card: ModelCard) -> Job:
    """Decode a completion request and tokenise its prompts.

    Raises:
        BadRequest: The request cannot be served as it stands.
        ApiError: The model is unknown.
    """
    request = decode_completion(body)
    check_model(request.model, card)
    include_usage = check_stream_options(request)
    sampling = sampling_of(request, card, request.logprobs)
    prompts = await _prompts(request.prompt, text, card)
    requests = generations(
        prompts,
        request,
        sampling=sampling,
        max_tokens=MAX_TOKENS_DEFAULT if request.max_tokens is None else request.max_tokens,
        card=card,
        param="prompt",
    )
    return Job(
        id=f"cmpl-{secrets.token_hex(12)}",
        created=int(time.time()),
        requests=requests,
        stops=stops_of(request),
        prompt_tokens=sum(map(len, prompts)),
        stream=bool(request.stream),
        include_usage=include_usage,
        logprobs=request.logprobs is not None,
        deadline_s=request.deadline_s,
    )


async def _prompts(
    prompt: str | list[str | int | list[int]], text: TextBackend, card: ModelCard
) -> list[tuple[int, ...]]:
    """One tuple of token ids for each prompt."""
    if isinstance(prompt, str):
        return [await text.tokens(prompt)]
    if not prompt:
        raise BadRequest("the prompt is empty", param="prompt")
    if isinstance(prompt[0], int):
        return [_token_ids(prompt, card)]
    if len(prompt) > CHOICES_MAX:
        raise BadRequest(
            f"{len(prompt)} prompts are more than the {CHOICES_MAX} allowed",
            hint="send several requests",
            param="prompt",
        )
    out: list[tuple[int, ...]] = []
    for one in prompt:
        if isinstance(one, str):
            out.append(await text.tokens(one))
        elif isinstance(one, list):
            out.append(_token_ids(one, card))
        else:
            raise BadRequest("prompt mixes token ids with other prompts", param="prompt")
    return out


def _token_ids(tokens: Sequence[object], card: ModelCard) -> tuple[int, ...]:
    out: list[int] = []
    for token in tokens:
        if not isinstance(token, int):
            raise BadRequest("prompt mixes token ids with other prompts", param="prompt")
        if token >= card.n_vocab:
            raise BadRequest(
                f"the prompt names token {token}, but the model has {card.n_vocab}",
                param="prompt",
            )
        out.append(token)
    return tuple(out)


class CompletionForm:
    """Writes answers of the completions endpoint; whole and streamed have one form."""

    def __init__(self, job: Job, card: ModelCard, fingerprint: str) -> None:
        self._job = job
        self._model = card.name
        self._fingerprint = fingerprint

    def _reply(
        self, choices: list[CompletionChoice], usage: Usage | msgspec.UnsetType | None
    ) -> bytes:
        return _encode(
            Completion(
                id=self._job.id,
                object="text_completion",
                created=self._job.created,
                model=self._model,
                system_fingerprint=self._fingerprint,
                choices=choices,
                usage=usage,
            )
        )

    def _chunk(self, choice: CompletionChoice) -> bytes:
        return self._reply([choice], None if self._job.include_usage else msgspec.UNSET)

    def opening(self, index: int) -> bytes:  # noqa: ARG002 - the form of all endpoints
        """This endpoint has no opening."""
        return b""

    def delta(self, index: int, delta: Delta) -> bytes:
        """Text, and log-probabilities where asked for."""
        return self._chunk(CompletionChoice(index, delta.text, self._logprobs(delta.entries)))

    def closing(self, index: int, finish: FinishReason) -> bytes:
        """Why the choice ended."""
        return self._chunk(CompletionChoice(index, "", finish_reason=finish))

    def usage(self, usage: Usage) -> bytes:
        """Usage, with no choice."""
        return self._reply([], usage)

    def whole(self, choices: Sequence[Finished], usage: Usage) -> bytes:
        """The answer without streaming."""
        return self._reply(
            [
                CompletionChoice(
                    index, "".join(done.text), self._logprobs(done.entries), done.finish
                )
                for index, done in enumerate(choices)
            ],
            usage,
        )

    def _logprobs(self, entries: Sequence[Entry]) -> CompletionLogprobs | None:
        if not self._job.logprobs:
            return None
        wants_top = bool(self._job.requests[0].sampling.logprobs)
        return CompletionLogprobs(
            tokens=[entry.sampled.piece.decode(errors="replace") for entry in entries],
            token_logprobs=[finite(entry.sampled.logprob) for entry in entries],
            top_logprobs=[_top(entry) for entry in entries] if wants_top else None,
            text_offset=[entry.start for entry in entries],
        )


def _top(entry: Entry) -> dict[str, float]:
    """Best tokens by text; of two with the same text the likelier stays."""
    out: dict[str, float] = {}
    for top in entry.sampled.top:
        out.setdefault(top.piece.decode(errors="replace"), finite(top.logprob))
    return out
