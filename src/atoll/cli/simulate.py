"""`atoll simulate`: the system under a seeded clock, with faults."""

from __future__ import annotations

import os

import msgspec
from cyclopts.types import NonNegativeInt, PositiveInt

from atoll.cli.running import run
from atoll.cli.screen import printable, say, show_json
from atoll.cli.settings import flags
from atoll.world.campaign import Tally, run_campaign
from atoll.world.fates import Outcome
from atoll.world.worker import Batch

BROKEN_EXIT = 1


@flags
class SimulateFlags:
    """Options of `atoll simulate`."""

    seeds: PositiveInt = 1000
    """How many seeds; each is one run with a fate of its own."""

    first_seed: NonNegativeInt = 0
    """The first of them."""

    seed: NonNegativeInt | None = None
    """Run this seed alone, and show its last events where it breaks something."""

    workers: NonNegativeInt = 0
    """Processes beside each other. 0: as many as there are cores."""

    json: bool = False
    """Print the result as JSON."""


class SimulateReply(msgspec.Struct, frozen=True):
    """What came of a campaign, for `--json`; `seeds_per_minute` are of one core."""

    seeds: int
    broken: int
    seeds_per_minute: float
    events: int
    kinds: dict[str, int]
    faults: dict[str, int]
    broken_seeds: list[Outcome]


def faults_simulate(*, options: SimulateFlags | None = None) -> int:
    """Run the system's own code under many seeds, each with other faults, and check it.

    Exits with 1 where an invariant was broken; each such seed is shown with the command that
    runs it again, to the same end.

    Example: `atoll simulate faults --seeds 10000`

    Example: `atoll simulate faults --seed 4711`
    """
    options = options or SimulateFlags()
    alone = options.seed is not None
    first = options.seed if options.seed is not None else options.first_seed
    count = 1 if alone else options.seeds

    def heard(tally: Tally, batch: Batch) -> None:
        for outcome in batch.broken:
            _say_broken(outcome, alone=alone)
        if not alone:
            rate = f"{tally.seeds_per_minute:.0f} a minute and core"
            say(f"{tally.seeds} of {count} seeds, {len(tally.broken)} broken, {rate}")

    workers = options.workers or os.cpu_count() or 1
    tally = run(run_campaign(first, count, workers=workers, heard=heard))
    if options.json:
        show_json(_reply(tally))
    else:
        _show(tally)
    return BROKEN_EXIT if tally.broken else 0


def _say_broken(outcome: Outcome, *, alone: bool) -> None:
    say(f"seed {outcome.seed} ({outcome.kind}): {outcome.problem}")
    say(f"  again: atoll simulate faults --seed {outcome.seed}")
    if alone:
        for line in outcome.trace:
            say(f"    {line}")


def _reply(tally: Tally) -> SimulateReply:
    return SimulateReply(
        *(tally.seeds, len(tally.broken), round(tally.seeds_per_minute, 1), tally.events),
        *(dict(sorted(tally.kinds.items())), dict(sorted(tally.faults.items()))),
        tally.broken,
    )


def _show(tally: Tally) -> None:
    print(f"seeds             {tally.seeds}")
    print(f"broken            {len(tally.broken)}")
    print(f"seeds per minute  {tally.seeds_per_minute:.0f} on a core")
    print(f"events            {tally.events}")
    for kind, count in sorted(tally.kinds.items()):
        print(f"{f'of the {kind}':<18}{count}")
    for fault, count in sorted(tally.faults.items()):
        print(f"{printable(fault):<18}{count}")
