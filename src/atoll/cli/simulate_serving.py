"""`atoll simulate --fleet`: a fleet that need not be there answers the requests of a trace."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from atoll.cli.catalogue import chosen_fleet, chosen_model, known_devices, read_description
from atoll.cli.report_tables import show_table
from atoll.cli.screen import printable, say, show_json, steps_bar
from atoll.cli.serving_tables import CaseReply, ServingReply, show_run
from atoll.cli.settings import flags
from atoll.domain.errors import BadRequest
from atoll.forecast.fleet_file import Fleet
from atoll.forecast.outlook import Workload
from atoll.forecast.prices import Paid
from atoll.forecast.quantities import TIME, parse_quantity
from atoll.forecast.targets import parse_target
from atoll.report.files import check_report, write_report
from atoll.report.serving import Run, runs_table, serving_page
from atoll.sim.serving.arrivals import Arrivals
from atoll.sim.serving.outcome import Outcome
from atoll.sim.serving.requests import Request
from atoll.sim.serving.sweep import Case, Detail, run_case, sweep, sweep_on_ray
from atoll.sim.serving.traces import parse_trace

TRACE_BYTES_MAX = 1 << 31
CASES_MAX = 10_000
Asked = Arrivals | tuple[Request, ...]


@flags
class ServingFlags:
    """Options of `atoll simulate`."""

    fleet: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    """Fleets: TOML files, or lines like `8 x H100 SXM + 60 x RTX 4090 @ 20 ms`. Several: each."""

    model: str = ""
    """A model by name, or a file: `.gguf`, a Hugging Face `config.json`, or `.toml`."""

    precision: str = "Q4_K_M"
    """How weights are packed: `F16`, `FP8`, `Q4_K_M` and others. Of a `.gguf`: as it is."""

    trace: Path | None = None
    """Requests: a trace of Azure's or Mooncake's form, or a CSV with `at_s,prompt,answer`."""

    speed_up: Annotated[tuple[PositiveFloat, ...], Parameter(consume_multiple=True)] = (1.0,)
    """How many times as fast the trace's requests come. Several: each."""

    rate: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    """Without a trace: how many requests come: `5/s`, `30/min`. Several: each."""

    duration: str = "10 min"
    """Without a trace: for how long they come."""

    prompt: PositiveFloat = 500.0
    """Without a trace: tokens of a prompt, on average."""

    answer: PositiveFloat = 250.0
    """Without a trace: tokens of an answer, on average."""

    spread: NonNegativeFloat = 0.5
    """Without a trace: how much lengths differ: deviation of a lognormal. 0: not."""

    burstiness: PositiveFloat = 1.0
    """Without a trace: variation of the times between requests. 1: by chance."""

    slo: str = ""
    """What users are to see at most: `ttft<0.5s,tpot<30ms`; the share that does is told."""

    patience: str = "10 min"
    """So long a request waits for its turn at most."""

    detail: Detail = "steps"
    """How rings are run: by the times of their steps, or by the system's own `machines`."""

    paid: Paid = "on-demand"
    """How devices are come by: rented by the hour, `spot`, for `three-years`, or `owned`."""

    devices: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = ()
    """TOML files of further devices."""

    seed: NonNegativeInt = 0
    """Decides what chance does; the same seed gives the same run."""

    seeds: PositiveInt = 1
    """Run so many seeds from that one on."""

    workers: NonNegativeInt = 0
    """Processes for several runs. 0: as many as there are cores."""

    ray: str = ""
    """Send several runs to the Ray cluster at this address; `local`: one on this machine."""

    report: Path | None = None
    """Write tables and charts: a page (`.html`) or a picture (`.svg`, `.png`)."""

    json: bool = False
    """Print the numbers as JSON."""


def simulate(*, options: ServingFlags | None = None) -> int:
    """Simulate fleets that serve a model, and the system itself with faults.

    Without a command: servers, rings and racks of the catalogue, which need not be there, answer
    the requests of a trace, or made ones; machines leave and come as the fleet says. What users
    would see, and how busy and how costly it would be, is told. `atoll compare` has the same
    cost models, without queues and time. A run can be had again from its seed.

    Example: `atoll simulate --fleet 8xh100 --model Llama-3.1-70B --rate 5/s`

    Example: `atoll simulate --fleet mine.toml --model Llama-3.1-8B --trace azure.csv --json`
    """
    options = options or ServingFlags()
    if not options.fleet or not options.model:
        raise BadRequest(
            "a fleet and a model are needed",
            hint="atoll simulate --fleet 8xh100 --model Llama-3.1-70B --rate 5/s",
        )
    report = options.report.expanduser() if options.report else None
    if report:
        check_report(report)
    shape, bits = chosen_model(options.model, options.precision)
    plans = _plans(options, Workload(shape, bits, 1.0, 1.0, options.paid))
    for fleet in {plan.case.fleet.name: plan.case.fleet for plan in plans}.values():
        _say_bounds(fleet)
    outcomes = _run([plan.case for plan in plans], options)
    replies = tuple(
        CaseReply(
            *(plan.case.fleet.name, plan.rate, plan.speed_up, plan.case.seed),
            outcome,
        )
        for plan, outcome in zip(plans, outcomes, strict=True)
    )
    if options.json:
        show_json(ServingReply(shape.name, round(bits, 3), replies))
    elif len(replies) == 1:
        show_run(replies[0])
    else:
        show_table(runs_table(list(map(_shown, replies))))
    if report:
        target = parse_target(options.slo, "")
        write_report(report, serving_page(shape.name, target, list(map(_shown, replies))))
        say(f"report: {report}")
    return 0


def _shown(reply: CaseReply) -> Run:
    """As tables have it: a trace's rate is what came."""
    found = reply.outcome
    rate = reply.requests_per_s or found.requests / found.seconds
    return Run(printable(reply.fleet), rate, reply.seed, found)


def _say_bounds(fleet: Fleet) -> None:
    """What nobody has measured or published is said to be a bound."""
    devices = {d.name: d for part in fleet.parts for d in part.ring or (part.line.device,)}
    for name, device in devices.items():
        if device.kind == "lpu":
            say(
                f"{fleet.name}: how many streams a system of {name} serves at once is not published"
            )
        elif not device.flops.get("fp16"):
            say(f"{fleet.name}: what {name} computes is not published; prompts take no time on it")
    for pool in dict.fromkeys(tier.pool for part in fleet.parts for tier in part.caches):
        if pool:
            say(f"{fleet.name}: no measurement of {pool} is published; what it gives is a bound")


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run to be; `rate` of made requests, `speed_up` of a trace's."""

    case: Case
    rate: float | None
    speed_up: float | None


def _plans(options: ServingFlags, work: Workload) -> list[_Plan]:
    devices = known_devices(options.devices)
    fleets = [chosen_fleet(text, devices) for text in options.fleet]
    requests = _requests(options)
    n = len(fleets) * len(requests) * options.seeds
    if n > CASES_MAX:
        raise BadRequest(f"{n} runs are more than {CASES_MAX}", hint="take fewer seeds or rates")
    patience_s = parse_quantity(options.patience, TIME, where="--patience")
    target = parse_target(options.slo, "")
    found = []
    for fleet in fleets:
        for asked, rate, speed_up in requests:
            prompt, answer = _lengths(asked)
            mean = replace(work, prompt=prompt, answer=answer)
            for seed in range(options.seed, options.seed + options.seeds):
                case = Case(fleet, mean, asked, target, seed, options.detail, patience_s)
                found.append(_Plan(case, rate, speed_up))
    return found


def _requests(options: ServingFlags) -> list[tuple[Asked, float | None, float | None]]:
    """Requests, with their rate where they are made, and how much faster a trace is."""
    if options.trace is None:
        if not options.rate:
            raise BadRequest(
                "there are no requests", hint="give --rate 5/s, or a file with --trace"
            )
        seconds = parse_quantity(options.duration, TIME, where="--duration")
        lengths = (options.prompt, options.answer, options.spread, options.burstiness)
        rates = [parse_target("", rate).rate for rate in options.rate]
        return [(Arrivals(rate, seconds, *lengths), rate, None) for rate in rates]
    if options.rate:
        raise BadRequest("a trace has its own rate", hint="--speed-up makes it another")
    text = read_description(options.trace, bytes_max=TRACE_BYTES_MAX)
    found = parse_trace(text, source=str(options.trace))
    return [
        (tuple(replace(r, at_s=r.at_s / faster) for r in found), None, faster)
        for faster in options.speed_up
    ]


def _lengths(asked: Asked) -> tuple[float, float]:
    if isinstance(asked, Arrivals):
        return asked.prompt, asked.answer
    n = len(asked)
    return sum(r.prompt for r in asked) / n, sum(r.answer for r in asked) / n


def _run(cases: list[Case], options: ServingFlags) -> list[Outcome]:
    with steps_bar() as step:

        def done(n: int) -> None:
            step("runs", n, len(cases))

        if options.ray:
            return sweep_on_ray(cases, address=options.ray, heard=done)
        if len(cases) > 1:
            workers = options.workers or os.cpu_count() or 1
            return sweep(cases, workers=workers, heard=done)
        asked = cases[0].requests
        total = int(asked.rate * asked.seconds) if isinstance(asked, Arrivals) else len(asked)
        return [run_case(cases[0], lambda _now_s, n: step("requests", n, max(n, total)))]
