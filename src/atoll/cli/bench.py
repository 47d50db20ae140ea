"""`atoll bench`: measure a running ring."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from atoll import __version__
from atoll.cli.running import hear_interrupts, run
from atoll.cli.screen import say, show_json, steps_bar
from atoll.cli.settings import flags
from atoll.cli.tables import rate_lines
from atoll.cli.target import TargetFlags
from atoll.client.api import ApiClient
from atoll.client.chat import choose_model
from atoll.client.endpoint import Endpoint
from atoll.client.measure import SILENCE_S, Measurement, Progress, Server
from atoll.client.rates import Rate
from atoll.client.workload import Workload, numbers_of
from atoll.domain.errors import AtollError


def check_numbers(_type: type, value: str | None) -> None:
    """Validate numbers with commas between them.

    Raises:
        ValueError: It is something else.
    """
    if value is not None:
        numbers_of(value)


Numbers = Annotated[str | None, Parameter(validator=check_numbers)]


@flags
class BenchFlags(TargetFlags):
    """Options of `atoll bench`."""

    model: str | None = None
    """The model to measure. Default: the first that is served."""

    prompt: int = 512
    """Tokens of the prompts that are read; 0 leaves that out."""

    generate: int = 128
    """Tokens that are generated; 0 leaves that out."""

    depths: Numbers = None
    """Tokens in the context before an answer, with commas between several. Default: 0,512."""

    streams: Numbers = None
    """Answers at once, with commas between several. Default: 1,4, as far as there is room."""

    rounds: int = 3
    """How often each is measured."""

    json: bool = False
    """Print the numbers as JSON, each round's too."""

    def workload(self) -> Workload:
        """What is to be measured.

        Raises:
            BadRequest: A number is out of range, or there is nothing to do.
        """
        return Workload(
            prompt=self.prompt,
            generate=self.generate,
            depths=None if self.depths is None else numbers_of(self.depths),
            streams=None if self.streams is None else numbers_of(self.streams),
            rounds=self.rounds,
        )


class BenchReply(msgspec.Struct, frozen=True):
    """What was measured, for `--json`; `complete` is false if it was stopped or failed."""

    server: Server
    client_version: str
    complete: bool
    rates: tuple[Rate, ...]


def bench(*, options: BenchFlags | None = None) -> None:
    """Measure a running ring, or any OpenAI-compatible server, as a client sees it.

    How many tokens a second of a prompt are read (`pp512`) and of an answer generated
    (`tg128`; `@ d512` with 512 tokens in the context; `x4` for four answers at once), the
    time to the first token, and the time of a token. The table is Markdown, for sharing.
    Prompts are random, so no cache has them. Ctrl-C ends it with what is known so far.

    Example: `atoll bench`

    Example: `atoll bench --depths 0,4096 --streams 1,2,8 --rounds 5`

    Example: `atoll bench --url http://127.0.0.1:8080 --json`
    """
    options = options or BenchFlags()
    endpoint, measurement = options.endpoint(), Measurement(options.workload())
    try:
        with hear_interrupts(), steps_bar() as progress:
            run(_measure(endpoint, options.model, measurement, progress))
    except (AtollError, KeyboardInterrupt):
        _show(measurement, as_json=options.json)
        raise
    _show(measurement, as_json=options.json)


async def _measure(
    endpoint: Endpoint, model: str | None, measurement: Measurement, progress: Progress
) -> None:
    async with ApiClient(endpoint, silence_s=SILENCE_S) as client:
        await measurement.run(client, await choose_model(client, model), progress)


def _show(measurement: Measurement, *, as_json: bool) -> None:
    """What is known; nothing where nothing is."""
    server, rates = measurement.server, measurement.rates()
    if server is None or not rates:
        return
    if as_json:
        show_json(BenchReply(server, __version__, measurement.complete, rates))
        return
    for line in rate_lines(server, rates, __version__):
        print(line)
    if server.others:
        say(f"the ring was busy with {server.others} other answers when this began")
    if not measurement.complete:
        say("stopped before all was measured: some rows are missing, or of fewer rounds")
