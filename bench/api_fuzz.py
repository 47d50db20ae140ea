"""Fuzzes the HTTP API of a real gateway with a ring, from the API's own document.

Schemathesis makes requests that keep to `GET /openapi.json` and requests that do
not. Whatever comes, the gateway must answer it as the document says, and never with
a fault of its own: no status of 500 or more (503 with `Retry-After` says that it is
busy, which is no fault, and 504 that a request's own short deadline has passed), no
error inside a stream, no answer without a key.
Most requests are cut to few tokens, so that there are many; some go out as they are,
and the client of those hangs up early.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import hypothesis
import requests
import schemathesis
from schemathesis import Case, CheckFunction, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from atoll.client.api import ApiClient
from atoll.client.endpoint import Endpoint
from atoll.demo.local_ring import LocalRingOptions, local_ring
from atoll.store.layout import Store, default_home
from atoll.store.pull import pull
from bench.fuzz_making import changed
from bench.local import DEMO_SOURCE, talk
from bench.raw_http import exchange, raw_request, sound_requests

CASES = 1_000
BATCHES = {"POST /v1/chat/completions": 30, "POST /v1/completions": 30, "GET /v1/models/{name}": 20}
BATCH_OTHER = 4
"""Cases of a path from one seed; another seed each time keeps them from resembling each other."""
CLIENTS = 6
"""At once, as most of the time one waits for answers."""
SEEDS_APART = 100_000
RAW = 20
"""In each round so many cases are bytes that no HTTP client would send."""
STATUS_LINE = re.compile(rb"(?m)^HTTP/1\.1 ([0-9]{3}) ")
CHANGED = 4
"""Of each made body so many changed ones are sent too."""
TOKENS_MAX, CHOICES_MAX = 2, 2
CONTEXT = 512
UNCUT_EVERY = 200
"""Of so many cases one is not cut to few tokens."""
KEYLESS_EVERY = 20
STREAM_EVERY = 3
"""Of so many made requests for an answer one asks for a stream; of themselves few do."""
ANSWERING = ("/v1/chat/completions", "/v1/completions")
HANG_UP_S, ANSWER_S = 1.0, 60.0
SHOWN_MAX = 20
SAY_EVERY = 500
CHECKS: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ANYTHING: list[object] = [None, "a", 1, 0.5, [], {"a": [1, {}]}, "\u00e9\u0000"]
OPEN_PATHS = ("/health",)
STREAM_ERROR = b"event: error"
LATE = b'"deadline_exceeded"'
DEADLINE_S = 10.0
"""A shorter one that a request sets itself may pass on a busy machine: it asked for that."""


@dataclass
class Tally:
    """What came of the cases."""

    cases: int = 0
    changed: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    busy: int = 0
    late: int = 0
    hung_up: int = 0
    generated: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in what came of other cases."""
        self.cases += other.cases
        self.changed += other.changed
        self.busy += other.busy
        self.late += other.late
        self.hung_up += other.hung_up
        self.generated += other.generated
        self.statuses += other.statuses
        self.operations += other.operations
        self.faults += other.faults
        self.shown += other.shown

    def blame(self, kind: str, case: Case[Any] | str, what: str) -> None:
        """Count a fault, and keep what makes it again."""
        self.faults[kind] += 1
        if len(self.shown) < SHOWN_MAX:
            sent = case if isinstance(case, str) else case.as_curl_command()
            self.shown.append(f"{kind}: {what[:500]}\n  {sent[:1500]}")


class ApiFuzzer:
    """Sends made requests to one gateway.

    Args:
        url: Its base address, without `/v1`.
        secret: A key of it.
        seed: Of the first batch.
        batches: Cases of a path from one seed, where not `BATCH_OTHER`.
    """

    def __init__(
        self, url: str, secret: str, *, seed: int = 0, batches: Mapping[str, int] = BATCHES
    ) -> None:
        self.tally = Tally()
        self._url = url
        self._key = {"Authorization": f"Bearer {secret}"}
        self._seed, self._batches_of, self._cases_max = seed, batches, 0
        self._sound = sound_requests(secret)
        self._session = requests.Session()
        self._session.trust_env = False
        document = self._session.get(f"{url}/openapi.json", headers=self._key, timeout=ANSWER_S)
        document.raise_for_status()
        found = document.json()
        # Else it would leave the key out of every second request, which then asks nothing.
        found["security"] = []
        _shorten(found)
        self._schema = schemathesis.openapi.from_dict(found)
        self._schema.config.output.sanitization.update(enabled=False)

    def run(self, cases: int, say: Callable[[str], None] = lambda _line: None) -> Tally:
        """Send so many cases, all kinds in turn; faults are counted, not raised."""
        began_s, said, raw_seed, self._cases_max = time.monotonic(), 0, -1, cases
        for operation, mode, seed in self._batches():
            if seed != raw_seed:
                self._raw_batch(raw_seed := seed)
            left = cases - self.tally.cases
            if left <= 0:
                break
            most = self._batches_of.get(operation.label, BATCH_OTHER)
            self._batch(operation, mode, seed, min(most, left))
            if self.tally.cases - said >= SAY_EVERY:
                said = self.tally.cases
                rate = said / (time.monotonic() - began_s) * 60
                say(f"{said} cases, {rate:.0f} a minute, faults {dict(self.tally.faults)}")
        return self.tally

    def _batches(self) -> Iterator[tuple[APIOperation[Any, Any, Any, Any], GenerationMode, int]]:
        operations = [
            found.ok() for found in self._schema.get_all_operations() if isinstance(found, Ok)
        ]
        for seed in count(self._seed):
            for operation in operations:
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    # What takes no input of a kind has nothing that could be wrong.
                    if mode is GenerationMode.POSITIVE or operation.body:
                        yield operation, mode, seed

    def _raw_batch(self, seed: int) -> None:
        """Send bytes that are mostly no sound request; each is a case."""
        for number in range(RAW):
            if self.tally.cases >= self._cases_max:
                return
            data = raw_request(self._sound, Random(seed << 16 | number))
            self.tally.cases += 1
            self.tally.operations["bytes"] += 1
            try:
                answer = exchange(self._url, data, ANSWER_S)
            except TimeoutError:
                self.tally.blame("silent", repr(data), f"no answer in {ANSWER_S:.0f} s")
                continue
            for status in map(int, STATUS_LINE.findall(answer)):
                self.tally.statuses[status] += 1
                if status >= 500 and b"retry-after:" not in answer.lower():
                    self.tally.blame("5xx", repr(data), repr(answer[:500]))

    def _batch(
        self, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, seed: int, n: int
    ) -> None:
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=n,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def each(case: Case[Any]) -> None:
            self._try(case)
            self._try_changed(case)

        each()

    def _try_changed(self, case: Case[Any]) -> None:
        """Send its body a few more times, with changes: making one anew takes far longer."""
        base = case.body
        if not isinstance(base, dict):
            return
        for number in range(CHANGED):
            body = changed(base, Random(self.tally.cases << 8 | number))
            try:
                json.dumps(body, allow_nan=False)
            except (TypeError, ValueError):
                continue  # no JSON
            case.body = body
            before = self.tally.cases
            self._try(case)
            self.tally.changed += self.tally.cases - before

    def _try(self, case: Case[Any]) -> None:
        """Send one case and judge the answer."""
        tally = self.tally
        if tally.cases >= self._cases_max:
            return
        tally.cases += 1
        tally.operations[case.operation.label] += 1
        uncut = tally.cases % UNCUT_EVERY == 0
        keyless = tally.cases % KEYLESS_EVERY == 0
        if not uncut:
            cut(case.body)
        if tally.cases % STREAM_EVERY == 0 and case.path in ANSWERING:
            stream(case.body)
        try:
            answer = case.call(
                base_url=self._url,
                session=self._session,
                headers=None if keyless else self._key,
                timeout=HANG_UP_S if uncut else ANSWER_S,
            )
        except requests.Timeout:
            if uncut:
                tally.hung_up += 1
            else:
                tally.blame("silent", case, f"no answer in {ANSWER_S:.0f} s")
            return
        except requests.ConnectionError as error:
            tally.blame("cut off", case, repr(error))
            return
        self._judge(case, answer, keyless=keyless)

    def _judge(self, case: Case[Any], answer: schemathesis.Response, *, keyless: bool) -> None:
        tally = self.tally
        tally.statuses[answer.status_code] += 1
        tally.generated += answer.status_code == 200 and case.method == "POST"
        if answer.status_code == 503 and "retry-after" in answer.headers:
            tally.busy += 1
            return
        if LATE in answer.content and is_short_of_time(case.body):
            tally.late += 1
            return
        if answer.status_code >= 500:
            tally.blame("5xx", case, f"{answer.status_code} {answer.text}")
            return
        if STREAM_ERROR in answer.content:
            tally.blame("stream", case, answer.text[-500:])
        if keyless and answer.status_code < 400 and case.path not in OPEN_PATHS:
            tally.blame("keyless", case, f"{answer.status_code} without a key")
        try:
            case.validate_response(answer, checks=CHECKS)
        except BaseExceptionGroup as group:
            for error in group.exceptions:
                tally.blame("undocumented", case, str(error))


def _shorten(document: dict[str, Any]) -> None:
    """Fill fields that may hold anything, into which nobody looks, from a few values.

    Making any of all values takes long.
    """
    for schema in document["components"]["schemas"].values():
        for field_schema in schema.get("properties", {}).values():
            if not field_schema.keys() - {"description"}:
                field_schema["enum"] = ANYTHING


def cut(body: object) -> None:
    """Have a request's answer take few tokens, if it is one that could be answered."""
    if not isinstance(body, dict):
        return
    if "max_tokens" not in body and "max_completion_tokens" not in body:
        body["max_tokens"] = TOKENS_MAX
    for name, most in (
        ("max_tokens", TOKENS_MAX),
        ("max_completion_tokens", TOKENS_MAX),
        ("n", CHOICES_MAX),
    ):
        asked = body.get(name, 1)
        if (asked is None and name != "n") or (isinstance(asked, int | float) and asked > most):
            body[name] = most


def is_short_of_time(body: object) -> bool:
    """Whether a request sets itself a deadline that may pass before its answer is done."""
    deadline_s = body.get("deadline_s") if isinstance(body, dict) else None
    return isinstance(deadline_s, int | float) and 0 < deadline_s < DEADLINE_S


def stream(body: object) -> None:
    """Have a request's answer streamed, if it is one that could be answered."""
    if isinstance(body, dict):
        body["stream"] = True


def found_of(tally: Tally) -> dict[str, Any]:
    """The figures of a run."""
    return {
        "api_cases": tally.cases,
        "of_them_changed": tally.changed,
        "api_5xx": tally.faults["5xx"],
        "api_faults": tally.faults.total(),
        "faults": dict(tally.faults),
        "answers_200_post": tally.generated,
        "busy": tally.busy,
        "late": tally.late,
        "hung_up": tally.hung_up,
        "statuses": {str(status): n for status, n in sorted(tally.statuses.items())},
        "operations": dict(tally.operations),
    }


async def fuzz_ring(cases: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Start a ring, fuzz its gateway, and see that it is whole and idle after it."""
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    with tempfile.TemporaryDirectory(prefix="atoll-fuzz-") as name:
        folder = Path(name)
        # One thread each: more wait for each other, spinning, where cores are few.
        options = LocalRingOptions(nodes=2, streams=8, context=CONTEXT, threads_large=1)
        async with local_ring(model, store, folder, options, tell=say) as ring:
            began_s = time.monotonic()
            tally = await _at_once(ring.endpoint, cases, seed, say)
            took_s = time.monotonic() - began_s
            await _wait_idle(ring.endpoint)
            log = (folder / "gateway.log").read_text(errors="replace")
        mistakes = log.count("request.failed")
        for line in tally.shown:
            say(line)
        return {
            **found_of(tally),
            "logged_mistakes": mistakes,
            "cases_per_minute": round(tally.cases / took_s * 60),
        }


async def _at_once(endpoint: Endpoint, cases: int, seed: int, say: Callable[[str], None]) -> Tally:
    """Several clients at a time, each with seeds of its own; what came of all."""

    def fuzz(client: int) -> Tally:
        fuzzer = ApiFuzzer(endpoint.url, endpoint.key, seed=seed + client * SEEDS_APART)
        return fuzzer.run(-(-cases // CLIENTS), lambda line: say(f"client {client}: {line}"))

    async with asyncio.TaskGroup() as tasks:
        clients = [tasks.create_task(asyncio.to_thread(fuzz, i)) for i in range(CLIENTS)]
    whole = Tally()
    for client in clients:
        whole.add(client.result())
    return whole


async def _wait_idle(endpoint: Endpoint) -> None:
    """Until no answer is being computed; what clients left must have been given up."""
    async with ApiClient(endpoint) as client, asyncio.timeout(ANSWER_S):
        while True:
            status = await client.status()
            if status.ready and not status.active and not status.waiting:
                return
            await asyncio.sleep(0.1)


def run(cases: int = CASES, seed: int = 0) -> dict[str, Any]:
    """Send so many cases to a ring of the demo model."""
    return asyncio.run(fuzz_ring(cases, seed, talk))
