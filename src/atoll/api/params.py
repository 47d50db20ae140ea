"""From a decoded request to generations: sampling, seeds, lengths, stops."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from atoll.api.backend import ModelCard
from atoll.api.errors import ApiError, ContextExceeded
from atoll.api.limits import CHOICES_MAX
from atoll.api.schema import CommonRequest
from atoll.domain.errors import BadRequest
from atoll.domain.generation import GenerateRequest, SamplingParams

_SEEDS = 1 << 63


@dataclass(frozen=True, slots=True)
class Job:
    """One HTTP request as generations: choice i is computed by `requests[i]`."""

    id: str
    created: int
    requests: tuple[GenerateRequest, ...]
    stops: tuple[str, ...]
    prompt_tokens: int
    stream: bool
    include_usage: bool
    logprobs: bool
    deadline_s: float | None = None
    """In how many seconds its client wants it to be done, where it says so."""

    def of_group(self, group: str) -> Job:
        """The same job as one of `group`: it shares computed beginnings with no other."""
        requests = tuple(replace(request, group=group) for request in self.requests)
        return replace(self, requests=requests)


def check_model(asked: str, card: ModelCard) -> None:
    """Raise 404 unless `asked` is the served model."""
    if asked != card.name:
        raise ApiError(
            f"the model {asked[:100]!r} is not served here",
            hint=f"this gateway serves {card.name!r}",
            status=404,
            code="model_not_found",
            param="model",
        )


def sampling_of(request: CommonRequest, card: ModelCard, logprobs: int | None) -> SamplingParams:
    """The sampling of choice 0. Without a seed, one is drawn.

    Raises:
        BadRequest: A biased token is not in the vocabulary.
    """
    bias = request.logit_bias or {}
    for token in bias:
        if token >= card.n_vocab:
            raise BadRequest(
                f"logit_bias names token {token}, but the model has {card.n_vocab}",
                param="logit_bias",
            )
    seed = secrets.randbelow(_SEEDS) if request.seed is None else request.seed % _SEEDS
    return SamplingParams(
        temperature=_given(request.temperature, 1.0),
        top_k=request.top_k or 0,
        top_p=_given(request.top_p, 1.0),
        min_p=_given(request.min_p, 0.0),
        frequency_penalty=_given(request.frequency_penalty, 0.0),
        presence_penalty=_given(request.presence_penalty, 0.0),
        repeat_penalty=_given(request.repeat_penalty, 1.0),
        logit_bias=tuple(sorted(bias.items())),
        seed=seed,
        logprobs=logprobs,
    )


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def choice_seed(seed: int, index: int) -> int:
    """The seed of choice `index`: the request's own for the first, else derived.

    So the first of several choices is what the same request with n = 1 gives.
    """
    if index == 0:
        return seed
    mixed = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(mixed, "big") % _SEEDS


def generations(
    prompts: Sequence[tuple[int, ...]],
    request: CommonRequest,
    *,
    sampling: SamplingParams,
    max_tokens: int | None,
    card: ModelCard,
    param: str,
) -> tuple[GenerateRequest, ...]:
    """One generation for each prompt and each of `n`, prompts outermost.

    `max_tokens` None means what the context leaves. `param` names the field
    that holds the prompt.

    Raises:
        BadRequest: An empty prompt, or too many choices.
        ContextExceeded: Prompt and answer do not fit the context.
    """
    n = request.n or 1
    if len(prompts) * n > CHOICES_MAX:
        raise BadRequest(
            f"{len(prompts)} prompts with n = {n} make more than {CHOICES_MAX} choices",
            hint="send several requests",
            param="n",
        )
    out: list[GenerateRequest] = []
    for prompt in prompts:
        if not prompt:
            raise BadRequest("the prompt is empty", param=param)
        base = GenerateRequest(
            prompt=prompt,
            max_tokens=_room(len(prompt), max_tokens, card.context, param),
            exact=bool(request.exact),
            ignore_eos=bool(request.ignore_eos),
        )
        for _ in range(n):
            seed = choice_seed(sampling.seed, len(out))
            out.append(replace(base, sampling=replace(sampling, seed=seed)))
    return tuple(out)


def _room(n_prompt: int, max_tokens: int | None, context: int, param: str) -> int:
    """How many tokens the answer may have."""
    room = context - n_prompt
    if room < 1:
        raise ContextExceeded(
            f"the prompt has {n_prompt} tokens, but the model's context is {context}"
            " with the answer",
            hint="shorten the prompt",
            param=param,
        )
    if max_tokens is None:
        return room
    if max_tokens > room:
        raise ContextExceeded(
            f"the prompt's {n_prompt} tokens and an answer of {max_tokens} exceed"
            f" the model's context of {context}",
            hint=f"ask for at most {room} tokens, or shorten the prompt",
            param=param,
        )
    return max_tokens


def stops_of(request: CommonRequest) -> tuple[str, ...]:
    """The stop strings of the request, without repeats."""
    if request.stop is None:
        return ()
    stops = [request.stop] if isinstance(request.stop, str) else request.stop
    return tuple(dict.fromkeys(stops))


def check_stream_options(request: CommonRequest) -> bool:
    """Whether usage is to be streamed; stream options without a stream are refused."""
    if request.stream_options is None:
        return False
    if not request.stream:
        raise BadRequest("stream_options needs stream = true", param="stream_options")
    return bool(request.stream_options.include_usage)
