"""What the API's fuzzer takes for a fault, on a gateway whose ring is scripted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from bench.api_fuzz import BATCHES, ApiFuzzer, Tally, cut, found_of, is_short_of_time
from tests.support.scripted import Sampler, ScriptedBackend, ScriptedText, fail, sample_hashes

from atoll.api.app import create_app
from atoll.api.keys import KeyStore
from atoll.api.server import open_server, open_socket
from atoll.domain.errors import DeadlineExceeded, Overloaded

pytestmark = pytest.mark.network
FEW = dict.fromkeys(BATCHES, 4)


async def fuzzed(
    folder: Path, sampler: Sampler = sample_hashes, *, has_keys: bool = True, cases: int = 60
) -> Tally:
    """What comes of some cases at a gateway with this sampler."""
    keys = KeyStore(folder / "keys.json")
    secret = keys.create("test").secret
    app = create_app(ScriptedBackend(sampler), ScriptedText(), keys=keys if has_keys else None)

    def fuzz(url: str) -> Tally:
        return ApiFuzzer(url, secret, seed=3, batches=FEW).run(cases)

    async with open_server(app, open_socket("127.0.0.1", 0)) as url:
        return await asyncio.to_thread(fuzz, url)


async def test_a_sound_gateway_has_no_faults(tmp_path: Path) -> None:
    tally = await fuzzed(tmp_path, cases=150)
    assert not tally.faults, "\n".join(tally.shown)
    found = found_of(tally)
    assert found["api_cases"] == 150
    assert found["api_5xx"] == found["api_faults"] == 0
    assert found["answers_200_post"] > 0
    assert 0 < found["of_them_changed"] < 150
    assert found["operations"]["bytes"] > 0
    both = Tally()
    both.add(tally)
    both.add(tally)
    assert found_of(both)["statuses"] == {k: 2 * n for k, n in found["statuses"].items()}
    assert both.cases == 2 * tally.cases


async def test_a_mistake_of_the_gateway_is_a_fault(tmp_path: Path) -> None:
    tally = await fuzzed(tmp_path, fail(RuntimeError("oh")))
    assert tally.faults["5xx"] > 0
    assert "500" in tally.shown[0]
    assert "curl" in tally.shown[0]


async def test_an_error_inside_a_stream_is_a_fault(tmp_path: Path) -> None:
    tally = await fuzzed(tmp_path, fail(RuntimeError("oh"), "the tide"))
    assert tally.faults["stream"] > 0


async def test_being_busy_is_none(tmp_path: Path) -> None:
    tally = await fuzzed(tmp_path, fail(Overloaded("full", retry_after_s=2)))
    assert tally.busy > 0
    assert not tally.faults, "\n".join(tally.shown)


async def test_a_deadline_that_passes_is_a_fault_unless_the_request_set_it(tmp_path: Path) -> None:
    tally = await fuzzed(tmp_path, fail(DeadlineExceeded("the answer was not done within 0.3 s")))
    assert tally.faults["5xx"] > 0


@pytest.mark.parametrize(
    ("body", "short"),
    [
        ({"deadline_s": 0.3}, True),
        ({"deadline_s": 9}, True),
        ({"deadline_s": 60}, False),
        ({"deadline_s": -1}, False),
        ({"deadline_s": "1"}, False),
        ({"deadline_s": None}, False),
        ({}, False),
        ([], False),
        (None, False),
    ],
)
def test_short_deadlines(body: Any, short: bool) -> None:
    assert is_short_of_time(body) == short


async def test_an_answer_without_a_key_is_a_fault(tmp_path: Path) -> None:
    tally = await fuzzed(tmp_path, has_keys=False)
    assert tally.faults.keys() == {"keyless"}


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({}, {"max_tokens": 2}),
        ({"max_tokens": 900, "n": 8}, {"max_tokens": 2, "n": 2}),
        ({"max_tokens": None, "n": None}, {"max_tokens": 2, "n": None}),
        (
            {"max_completion_tokens": 9, "max_tokens": 1},
            {"max_completion_tokens": 2, "max_tokens": 1},
        ),
        ({"max_tokens": "a"}, {"max_tokens": "a"}),
        ([1], [1]),
    ],
)
def test_requests_are_cut_to_few_tokens(body: Any, wanted: Any) -> None:
    cut(body)
    assert body == wanted
