"""A conversation's next turn computes what is new, and says so; nobody else's does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.rings import Ring, open_ring, wait_until

from atoll.api.keys import KEYS_FILE, KeyStore
from atoll.gateway.options import RingOptions
from atoll.store.layout import FoundModel, Store

pytestmark = [pytest.mark.engine, pytest.mark.network]

OPTIONS = RingOptions(nodes=2, streams=2, context=512, spin=1000)
TEXT = "The tide comes in twice a day, and twice a day it goes out again. " * 3


@pytest.fixture
def model(test_store: Store, demo_model: Path) -> FoundModel:
    return test_store.resolve(str(demo_model))


@pytest.fixture
async def ring(test_store: Store, model: FoundModel, tmp_path: Path) -> AsyncIterator[Ring]:
    async with open_ring(model, test_store, tmp_path, OPTIONS) as found:
        yield found


async def turn(ring: Ring, messages: list[dict[str, str]], key: str = "") -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key or ring.secret}"}
    asked = {"model": ring.name, "messages": messages, "temperature": 0, "max_tokens": 12}
    reply = await ring.http.post(
        "/v1/chat/completions", json=asked | {"exact": True}, headers=headers
    )
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def cached(reply: dict[str, Any]) -> int:
    count: int = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
    return count


async def test_the_next_turn(
    ring: Ring, test_store: Store, model: FoundModel, tmp_path: Path
) -> None:
    talk = [{"role": "user", "content": TEXT + "What comes in twice a day?"}]
    first = await turn(ring, talk)
    assert cached(first) == 0
    said = first["choices"][0]["message"]["content"]
    talk += [
        {"role": "assistant", "content": said},
        {"role": "user", "content": "And what goes out?"},
    ]
    second = await turn(ring, talk)
    # All of the first turn's prompt, and nearly all of the answer.
    assert cached(second) >= first["usage"]["prompt_tokens"] - 8
    assert cached(second) < second["usage"]["prompt_tokens"]
    # Another key's request shares nothing, though it begins alike.
    other = KeyStore(tmp_path / "gateway" / KEYS_FILE).create("other").secret
    assert cached(await turn(ring, talk, other)) == 0
    await wait_until(lambda: ring.status.active == 0)
    # A gateway that keeps nothing gives the same answers.
    plain = replace(OPTIONS, reuse=False)
    async with open_ring(model, test_store, tmp_path / "plain", plain) as fresh:
        again = await turn(fresh, talk)
    assert cached(again) == 0
    assert again["choices"] == second["choices"]
