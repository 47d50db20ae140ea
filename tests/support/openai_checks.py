"""What the official `openai` client must find at any gateway, whatever the model.

Each check takes an async client and the model's name. `CHECKS` lists them
all, for tests that run them against this server or that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You answer in one sentence."},
    {"role": "user", "content": "Where does the tide go?"},
]
PROMPT = "The tide goes out and"
N_TOKENS = 24


async def check_models(client: AsyncOpenAI, model: str) -> None:
    listed = await client.models.list()
    assert [entry.id for entry in listed.data] == [model]
    assert (await client.models.retrieve(model)).id == model
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"


async def check_chat(client: AsyncOpenAI, model: str) -> None:
    reply = await client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=N_TOKENS, seed=1
    )
    [choice] = reply.choices
    assert reply.object == "chat.completion"
    assert reply.model == model
    assert choice.message.role == "assistant"
    assert choice.message.content is not None
    assert choice.finish_reason in ("stop", "length")
    assert choice.logprobs is None
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 0
    assert 0 < reply.usage.completion_tokens <= N_TOKENS
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


async def check_length(client: AsyncOpenAI, model: str) -> None:
    reply = await client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        max_completion_tokens=5,
        seed=1,
        extra_body={"ignore_eos": True},
    )
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 5


async def check_same_seed_same_text(client: AsyncOpenAI, model: str) -> None:
    async def ask(seed: int) -> str | None:
        reply = await client.chat.completions.create(
            model=model,
            messages=MESSAGES,
            max_tokens=N_TOKENS,
            seed=seed,
            temperature=1.5,
            extra_body={"exact": True, "ignore_eos": True},
        )
        return reply.choices[0].message.content

    assert await ask(7) == await ask(7)
    # A model may be sure of its answer, but hardly for five seeds at this temperature.
    assert len({await ask(seed) for seed in range(5)}) > 1


async def check_greedy_repeats(client: AsyncOpenAI, model: str) -> None:
    texts = [
        (
            await client.completions.create(
                model=model,
                prompt=PROMPT,
                max_tokens=N_TOKENS,
                temperature=0,
                extra_body={"exact": True},
            )
        )
        .choices[0]
        .text
        for _ in range(2)
    ]
    assert texts[0] == texts[1]


async def check_chat_stream(client: AsyncOpenAI, model: str) -> None:
    whole = await client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        max_tokens=N_TOKENS,
        seed=3,
        extra_body={"exact": True},
    )
    stream = await client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        max_tokens=N_TOKENS,
        seed=3,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"exact": True},
    )
    chunks: list[ChatCompletionChunk] = [chunk async for chunk in stream]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    *body, last = chunks
    assert last.choices == []
    assert last.usage == whole.usage
    assert all(chunk.usage is None for chunk in body)
    choices = [chunk.choices[0] for chunk in body]
    assert choices[0].delta.role == "assistant"
    assert all(choice.delta.role is None for choice in choices[1:])
    text = "".join(choice.delta.content or "" for choice in choices)
    assert text == whole.choices[0].message.content
    finishes = [choice.finish_reason for choice in choices]
    assert finishes == [None] * (len(choices) - 1) + [whole.choices[0].finish_reason]


async def check_completion_stream(client: AsyncOpenAI, model: str) -> None:
    whole = await client.completions.create(
        model=model,
        prompt=PROMPT,
        max_tokens=N_TOKENS,
        seed=3,
        extra_body={"exact": True},
    )
    stream = await client.completions.create(
        model=model,
        prompt=PROMPT,
        max_tokens=N_TOKENS,
        seed=3,
        stream=True,
        extra_body={"exact": True},
    )
    choices = [chunk.choices[0] async for chunk in stream]
    assert "".join(choice.text for choice in choices) == whole.choices[0].text
    assert choices[-1].finish_reason == whole.choices[0].finish_reason


async def check_stop(client: AsyncOpenAI, model: str) -> None:
    free = await client.completions.create(
        model=model,
        prompt=PROMPT,
        max_tokens=N_TOKENS,
        temperature=0,
        extra_body={"exact": True, "ignore_eos": True},
    )
    text = free.choices[0].text
    assert len(text) >= 8, "too little text to cut a stop string from"
    middle = len(text) // 2
    stop = text[middle : middle + 3]
    for stream in (False, True):
        cut = await _completion_text(client, model, stop, stream=stream)
        assert cut == (text[: text.index(stop)], "stop")


async def _completion_text(
    client: AsyncOpenAI, model: str, stop: str, *, stream: bool
) -> tuple[str, str]:
    extra = {"exact": True, "ignore_eos": True}
    if not stream:
        reply = await client.completions.create(
            model=model,
            prompt=PROMPT,
            max_tokens=N_TOKENS,
            temperature=0,
            stop=["never-said-anywhere", stop],
            extra_body=extra,
        )
        return reply.choices[0].text, reply.choices[0].finish_reason
    events = await client.completions.create(
        model=model,
        prompt=PROMPT,
        max_tokens=N_TOKENS,
        temperature=0,
        stop=stop,
        stream=True,
        extra_body=extra,
    )
    choices = [event.choices[0] async for event in events]
    return "".join(choice.text for choice in choices), choices[-1].finish_reason


async def check_chat_logprobs(client: AsyncOpenAI, model: str) -> None:
    reply = await client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        max_tokens=8,
        seed=5,
        logprobs=True,
        top_logprobs=4,
        extra_body={"ignore_eos": True},
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 8
    said = b""
    for entry in logprobs.content:
        assert entry.logprob <= 0
        assert entry.bytes is not None
        said += bytes(entry.bytes)
        tops = [top.logprob for top in entry.top_logprobs]
        assert len(tops) == 4
        assert all(top <= 0 for top in tops)
        assert tops == sorted(tops, reverse=True)
    assert said.decode(errors="replace") == reply.choices[0].message.content


async def check_logprobs_stream(client: AsyncOpenAI, model: str) -> None:
    asked = {"ignore_eos": True, "exact": True}
    whole = await client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=8, seed=5, logprobs=True, extra_body=asked
    )
    stream = await client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        max_tokens=8,
        seed=5,
        logprobs=True,
        stream=True,
        extra_body=asked,
    )
    entries = [
        entry
        async for chunk in stream
        if chunk.choices[0].logprobs is not None
        for entry in chunk.choices[0].logprobs.content or []
    ]
    expected = whole.choices[0].logprobs
    assert expected is not None
    assert entries == expected.content


async def check_completion_logprobs(client: AsyncOpenAI, model: str) -> None:
    reply = await client.completions.create(
        model=model, prompt=PROMPT, max_tokens=6, logprobs=3, seed=5
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.token_logprobs is not None
    assert logprobs.top_logprobs is not None
    assert logprobs.text_offset is not None
    lists = (logprobs.token_logprobs, logprobs.top_logprobs, logprobs.text_offset)
    assert all(len(each) == len(logprobs.tokens) for each in lists)
    assert all(value <= 0 for value in logprobs.token_logprobs)
    assert all(1 <= len(top) <= 3 for top in logprobs.top_logprobs)
    assert logprobs.text_offset == sorted(logprobs.text_offset)
    assert logprobs.text_offset[:1] in ([], [0])


async def check_two_choices(client: AsyncOpenAI, model: str) -> None:
    asked = {"exact": True, "ignore_eos": True}
    one = await client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=N_TOKENS, seed=11, extra_body=asked
    )
    two = await client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=N_TOKENS, seed=11, n=2, extra_body=asked
    )
    assert [choice.index for choice in two.choices] == [0, 1]
    texts = [choice.message.content for choice in two.choices]
    assert texts[0] == one.choices[0].message.content
    assert two.usage is not None
    assert one.usage is not None
    assert two.usage.prompt_tokens == one.usage.prompt_tokens
    assert two.usage.completion_tokens == 2 * N_TOKENS
    stream = await client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        max_tokens=N_TOKENS,
        seed=11,
        n=2,
        stream=True,
        extra_body=asked,
    )
    streamed = ["", ""]
    async for chunk in stream:
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


async def check_content_parts(client: AsyncOpenAI, model: str) -> None:
    async def ask(messages: list[ChatCompletionMessageParam]) -> str | None:
        reply = await client.chat.completions.create(
            model=model,
            messages=messages,
            max_tokens=8,
            temperature=0,
            extra_body={"exact": True},
        )
        return reply.choices[0].message.content

    whole = await ask([{"role": "user", "content": "Say a word."}])
    parts = await ask(
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "a word."}],
            }
        ]
    )
    assert whole == parts


async def check_sampling_fields(client: AsyncOpenAI, model: str) -> None:
    reply = await client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        max_tokens=8,
        temperature=0.7,
        top_p=0.9,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        logit_bias={"5": -100},
        seed=2,
        user="somebody",
        metadata={"any": "thing"},
        extra_body={"top_k": 20, "min_p": 0.05, "repeat_penalty": 1.1},
    )
    assert reply.choices[0].message.content is not None


async def check_errors(client: AsyncOpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=model, messages=MESSAGES, temperature=3)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.completions.create(model=model, prompt=PROMPT * 30_000, max_tokens=1)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError) as refused:
        await client.with_options(api_key="atoll-00000000-wrong").models.list()
    assert refused.value.code == "invalid_api_key"


Check = Callable[[AsyncOpenAI, str], Awaitable[None]]

CHECKS: tuple[Check, ...] = (
    check_models,
    check_chat,
    check_length,
    check_same_seed_same_text,
    check_greedy_repeats,
    check_chat_stream,
    check_completion_stream,
    check_stop,
    check_chat_logprobs,
    check_logprobs_stream,
    check_completion_logprobs,
    check_two_choices,
    check_content_parts,
    check_sampling_fields,
    check_errors,
)
