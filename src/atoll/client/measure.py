"""Measures a server: asks what a workload wants, in rounds, and keeps what is known so far.

The rounds go over all trials before the next one begins, so that what else
the machines do hits all rows alike, and a measurement that is stopped has
something to say about each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing

import msgspec

from atoll.client.api import ApiClient, ApiFault
from atoll.client.rates import Rate, Round, rate_of
from atoll.client.timing import Piece, Timed, read_timed
from atoll.client.workload import Room, Trial, Workload, draw_prompt
from atoll.domain.errors import LinkFault, RingDown

SILENCE_S = 1800.0
"""A slow ring may read a long prompt that long before it says anything."""
WARM_TOKENS = 8
ANSWER_BYTES_MAX = 1 << 28
"""Only a server that ignores `max_tokens` comes near it."""

Progress = Callable[[str, int, int], None]
"""Takes what is asked now, how many rounds of trials are done, and how many there are."""


class Server(msgspec.Struct, frozen=True):
    """What answered. Only an Atoll gateway tells more than the model's name.

    `others` is how many answers of other clients were in progress or waiting
    before the first of ours.
    """

    model: str
    version: str | None = None
    architecture: str | None = None
    quantisation: str | None = None
    layers: int | None = None
    nodes: int | None = None
    context: int | None = None
    streams: int | None = None
    others: int | None = None


async def ask_server(client: ApiClient, model: str) -> Server:
    """What the server tells of itself.

    Raises:
        ApiFault: The request failed.
        RingDown: It is a gateway whose ring is not up.
    """
    try:
        status = await client.status()
    except ApiFault as fault:
        # Servers of other makes have no such path, or something else there.
        if fault.status >= 500:
            raise
        return Server(model)
    if not status.ready:
        raise RingDown(f"the ring is not up: {status.reason}", hint="see 'atoll status'")
    return Server(
        model,
        version=status.version,
        architecture=status.architecture,
        quantisation=status.quantisation,
        layers=status.n_layers,
        nodes=sum(len(ring.stages) for ring in status.rings),
        context=status.context,
        streams=status.streams,
        others=status.active + status.waiting,
    )


class Measurement:
    """One measurement of one model. After `run` ended, however it did, the rest tells its results.

    `server` is None and `trials` empty until the server has told of itself.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.server: Server | None = None
        self.trials: tuple[Trial, ...] = ()
        self._rounds: dict[Trial, list[Round]] = {}

    @property
    def complete(self) -> bool:
        """Whether all rounds of all trials are done."""
        n_done = [len(self._rounds.get(trial, ())) for trial in self.trials]
        return bool(n_done) and min(n_done) == self.workload.rounds

    def rates(self) -> tuple[Rate, ...]:
        """The rows that are known, each of the rounds that were completed."""
        return tuple(rate_of(trial, self._rounds[trial]) for trial in self._rounds)

    async def run(self, client: ApiClient, model: str, progress: Progress) -> None:
        """Measure. Cancelling this stops all answers at the server.

        Raises:
            BadRequest: The workload does not fit the server, or its answers
                cannot be timed.
            RingDown: The ring is not up.
            ApiFault: A request failed, or its answer is not what was asked for.
        """
        self.server = await ask_server(client, model)
        room = Room(self.server.context, self.server.streams)
        self.trials = self.workload.trials(room)
        total = self.workload.rounds * len(self.trials)
        progress("warm-up", 0, total)
        for trial in warm_up(self.trials):
            await self._ask(client, trial)
        for number in range(total):
            trial = self.trials[number % len(self.trials)]
            progress(trial.name, number, total)
            done = Round.of(trial, await self._ask(client, trial))
            self._rounds.setdefault(trial, []).append(done)
        progress("done", total, total)

    async def _ask(self, client: ApiClient, trial: Trial) -> list[Timed]:
        """All streams of a trial at once."""
        assert self.server is not None, "asked before"
        bodies = [request_of(self.server.model, trial) for _ in range(trial.streams)]
        try:
            async with asyncio.TaskGroup() as tasks:
                asked = [
                    tasks.create_task(record(client, body), name=f"stream-{number}")
                    for number, body in enumerate(bodies)
                ]
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return [
            await read_timed(
                *task.result(),
                prompt_tokens=trial.prompt_tokens,
                answer_tokens=trial.answer_tokens,
            )
            for task in asked
        ]


def warm_up(trials: Sequence[Trial]) -> list[Trial]:
    """Short trials before those that count: of each kind, with as many streams as ever.

    They load what is loaded at first use, and show whether the server does what
    is asked at all.
    """
    streams = max(trial.streams for trial in trials)
    read = next((trial for trial in trials if trial.kind == "pp"), None)
    said = next((trial for trial in trials if trial.kind == "tg"), None)
    found = [Trial("pp", read.tokens)] if read else []
    if said:
        found.append(Trial("tg", min(said.tokens, WARM_TOKENS), streams=streams))
    return found


def request_of(model: str, trial: Trial) -> dict[str, object]:
    """A greedy request with a prompt that nobody asked before."""
    return {
        "model": model,
        "prompt": draw_prompt(trial.prompt_tokens),
        "max_tokens": trial.answer_tokens,
        "temperature": 0,
        "ignore_eos": True,
    }


async def record(client: ApiClient, body: dict[str, object]) -> tuple[float, list[Piece]]:
    """When the request was sent, and the answer's bytes with the times at which they came.

    Raises:
        ApiFault: The request failed, or the answer does not end.
    """
    pieces: list[Piece] = []
    n_bytes = 0
    asked_s = time.perf_counter()

    def begun() -> None:
        nonlocal asked_s
        asked_s = time.perf_counter()

    async with aclosing(client.completion_bytes(body, begun)) as answer:
        async for piece in answer:
            pieces.append((time.perf_counter(), piece))
            n_bytes += len(piece)
            if n_bytes > ANSWER_BYTES_MAX:
                raise LinkFault(
                    f"the answer is longer than {ANSWER_BYTES_MAX} bytes",
                    hint="the server seems to ignore max_tokens",
                )
    return asked_s, pieces
