"""The official client against the HTTP side alone."""

from __future__ import annotations

import openai
import pytest
from tests.api.conftest import Door
from tests.support.openai_checks import CHECKS, MESSAGES, Check
from tests.support.scripted import MODEL, fail

from atoll.domain.errors import Overloaded, RingDown

pytestmark = pytest.mark.network


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_check(door: Door, check: Check) -> None:
    await check(door.client, MODEL)
    assert door.backend.open == 0


async def test_an_error_in_a_stream_reaches_the_client(door: Door) -> None:
    door.backend.sampler = fail(RingDown("node reef left the ring"), "The ", "tide ")
    stream = await door.client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    text = ""
    with pytest.raises(openai.APIError, match="node reef left the ring") as caught:  # noqa: PT012
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text == "The tide "
    assert caught.value.code == "ring_down"


async def test_overload_is_a_status_even_when_streaming(door: Door) -> None:
    door.backend.sampler = fail(Overloaded("all slots are taken", retry_after_s=3))
    with pytest.raises(openai.InternalServerError) as caught:
        await door.client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"] == "3"
    assert caught.value.code == "overloaded"
