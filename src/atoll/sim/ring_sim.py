"""Ring simulation: the real machines, a model of hashes, and a seeded fate.

One `Coordinator` drives a chain of `Stage` machines. Sessions come and are
given up, engines fail, stages crash and come back under a new epoch, hostile
frames are pushed in. After every event the invariants of `Watch` and
`Traffic` are checked; a run that breaks one raises `SimFailure` with the seed
that replays it exactly.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Epoch, SessionId
from atoll.domain.wire import Window
from atoll.ring import comeback_messages as comeback
from atoll.ring import coordinator_messages as gate
from atoll.ring import parking_messages as parking
from atoll.ring import stage_messages as node
from atoll.ring.coordinator import Coordinator
from atoll.ring.messages import GrantCredit, Granted, ItemFailed, Payload, Refuse, WindowUnusable
from atoll.ring.orders import event_of, order_of
from atoll.sim.chain import Chain
from atoll.sim.fake_draft import FakeDraft
from atoll.sim.fake_ends import FakeEnds
from atoll.sim.fake_model import FakeShard, ModelMisuse
from atoll.sim.fake_record import FakeRecord
from atoll.sim.hostile import forge
from atoll.sim.oracle import Oracle
from atoll.sim.scenario import Outage, Scenario, make_scenario
from atoll.sim.traffic import BrokenInvariant, GatewayCredits, Message
from atoll.sim.watch import Watch

END_S = 1000.0
"""When nothing is left to happen but to forget what rests."""
EVENTS_MAX = 20_000
"""A run that takes more does not settle."""
WORD_CHARS_MAX = 120
"""Of each argument in a trace."""


class SimFailure(Exception):
    """An invariant was broken; `seed` replays it. `trace` has the last events, a line each."""

    def __init__(self, seed: int, event: int, problem: str, trace: tuple[str, ...] = ()) -> None:
        super().__init__(f"seed {seed}, event {event}: {problem}")
        self.seed = seed
        self.event = event
        self.problem = problem
        self.trace = trace


@dataclass(frozen=True, slots=True)
class Report:
    """What happened in a run that broke nothing.

    `ends` counts sessions by how they ended ("finished" or a code),
    `refusals` refused frames by code, `faults` what befell the ring.
    """

    seed: int
    events: int
    tokens: int
    cached: int
    ends: dict[str, int]
    refusals: dict[str, int]
    batches: int
    largest_batch: int
    epochs: int
    parked: int
    resumed: int
    comebacks: int
    replayed: int
    faults: dict[str, int]


def run_seed(seed: int) -> Report:
    """Simulate the scenario of `seed` until nothing is left to happen.

    Raises:
        SimFailure: An invariant was broken or the run did not settle.
    """
    rng = random.Random(seed)  # noqa: S311 - a replayable scenario, nothing secret
    sim = RingSim(make_scenario(rng), rng)
    settle(seed, sim.chain, sim.check)
    try:
        sim.check_settled()
    except BrokenInvariant as fault:
        raise failure_of(seed, sim.chain, str(fault)) from fault
    traffic = sim.chain.traffic
    return Report(
        seed=seed,
        events=sim.chain.heap.taken,
        tokens=sim.watch.tokens,
        cached=sim.watch.cached,
        ends=dict(Counter(sim.watch.ends.values())),
        refusals=dict(sim.chain.refusals),
        batches=traffic.batches,
        largest_batch=traffic.largest_batch,
        epochs=sim.epoch.counter,
        parked=sim.parked,
        resumed=sim.watch.resumed,
        comebacks=sim.comebacks,
        replayed=traffic.replayed,
        faults=dict(sim.chain.faults),
    )


def settle(seed: int, chain: Chain, check: Callable[[], None]) -> None:
    """Let everything happen, with a check after each event.

    Raises:
        SimFailure: A check failed, a machine raised, or the run does not settle.
    """
    heap = chain.heap
    try:
        for happening in heap:
            happening()
            check()
            if heap.taken > EVENTS_MAX:
                raise BrokenInvariant("the run does not settle")
    except (BrokenInvariant, ModelMisuse, AssertionError, LookupError, ValueError) as fault:
        raise failure_of(seed, chain, f"{type(fault).__name__}: {fault}") from fault


def failure_of(seed: int, chain: Chain, problem: str) -> SimFailure:
    """What went wrong, with the events that led to it."""
    lines = tuple(f"{at_s:.4f} s  {_told(event)}" for at_s, event in chain.heap.last)
    return SimFailure(seed, chain.heap.taken, problem, lines)


def _told(happening: Callable[[], None]) -> str:
    if not isinstance(happening, partial):
        return happening.__qualname__
    words = ", ".join(repr(word)[:WORD_CHARS_MAX] for word in happening.args)
    return f"{happening.func.__qualname__}({words})"


class RingSim:
    """One run: the driver that a gateway is in real life, and what befalls it."""

    def __init__(self, scenario: Scenario, rng: random.Random) -> None:
        self.scenario = scenario
        self.rng = rng
        self.epoch = Epoch(1, 1)
        self.coordinator = Coordinator(scenario.coordinator, self._drafter)
        cuts = scenario.chain.cuts
        tail = FakeShard(cuts[-1], scenario.n_layers)
        requests = [arrival.request for arrival in scenario.arrivals]
        self.draft = FakeDraft(requests, scenario, rng)
        self.ends = FakeEnds(FakeShard(0, cuts[0]), tail)
        self.watch = Watch(scenario, self.coordinator, self.ends)
        self.chain = Chain(scenario.chain, self, self.epoch, rng)
        self._draft_is_gone = False
        self.record = FakeRecord()
        self._touched = True
        self._credits = GatewayCredits(0, 0, 0, 0)
        self.parked = self.comebacks = 0
        self._plan()

    def _plan(self) -> None:
        put = self.chain.heap.put
        # Sometimes sessions come before the ring is up.
        up_s = self.rng.choice((0.0, 0.0, 0.0, 0.3))
        put(up_s, partial(self._event, gate.RingUp(self.epoch)))
        for arrival in self.scenario.arrivals:
            submit = gate.Submit(arrival.session, arrival.request)
            put(arrival.at_s, partial(self._event, submit))
            if arrival.cancel_s is not None:
                cancel = gate.CancelSession(arrival.session, "the client left")
                put(arrival.cancel_s, partial(self._event, cancel))
            # Every third client does not keep up for a while.
            if arrival.session % 3 == 0:
                held_s = arrival.at_s + 0.1 * (1 + arrival.session % 5)
                put(held_s, partial(self._event, gate.Hold(arrival.session, True)))
                put(held_s + 0.5, partial(self._event, gate.Hold(arrival.session, False)))
        for outage in self.scenario.outages:
            put(outage.at_s, partial(self._crash, outage))
        for at_s in self.scenario.ticks_s:
            put(at_s, partial(self._event, parking.Tick()))
        for at_s in self.scenario.hostile_s:
            put(at_s, self._hostile)
        if self.scenario.draft_gone_s is not None:
            put(self.scenario.draft_gone_s, self._lose_draft)
        # Now and then, and when all is over, no caches are kept.
        for at_s in (self.rng.uniform(0, 2), END_S):
            put(at_s, partial(self._event, gate.Forget()))

    def _drafter(self, request: GenerateRequest) -> Oracle:
        return Oracle(request, self.scenario, self.rng)

    def check(self) -> None:
        """Check what must hold after every event."""
        # Machines change by events alone: what no event touched holds as it did.
        machines, touched, traffic = self.chain.machines, self.chain.touched, self.chain.traffic
        moved = traffic.moved
        changed = False
        if self._touched:
            self._touched = False
            changed = self.watch.check_gateway()
            departures, returns = self.coordinator.departures, self.coordinator.returns
            agreed = self.scenario.coordinator.return_credits
            self._credits = GatewayCredits(
                departures.credits, returns.given, returns.waiting, agreed
            )
            moved.update((0, len(machines)))
        if touched:
            traffic.check_stages(machines, touched)
            moved.update(touched)
            moved.update([stage + 1 for stage in touched])
        if touched or changed:
            self.watch.check_holders(machines, range(len(machines)) if changed else touched)
            touched.clear()
        if moved and self.coordinator.epoch == self.epoch:
            current = [m for m in machines if m is not None and m.epoch == self.epoch]
            if len(current) == len(machines):
                traffic.check_credits(current, self._credits, self.epoch, moved)
                moved.clear()

    def check_settled(self) -> None:
        """Check what must hold when nothing is left to happen."""
        self.watch.check_settled()
        shards = [at.shard for at in self.chain.nodes]
        self.chain.traffic.check_settled(self.chain.machines, shards)
        left = [sorted(at.parcels) for at in self.chain.nodes]
        if any(left):
            raise BrokenInvariant(f"stages keep parcels: {left}")

    # What the chain tells the gateway

    def frame_returned(self, message: Message, payload: Payload) -> None:
        """A frame has passed the last stage; a cancel has no more to say."""
        if isinstance(message, Window):
            lap_s = self.rng.choice((0.0, 0.01, 0.02 * message.rows))
            lap_s += self.scenario.away_s if lap_s else 0.0
            self._event(gate.WindowReturned(message, payload, lap_s))
        elif (event := event_of(message)) is not None:
            self._event(event)

    def granted(self, frames: int, epoch: Epoch) -> None:
        """Credits from the first stage, unless its link was replaced."""
        if self.coordinator.epoch == epoch:
            self._event(Granted(frames))

    def refused(self, refused: gate.SessionRefused, epoch: Epoch) -> None:
        """A stage's report, unless it is of another epoch."""
        if self.coordinator.epoch == epoch:
            self._event(refused)

    def engine_failed(self, session: SessionId) -> None:
        """This session may fail with code "engine"."""
        self.watch.engine_failed(session)

    # What the coordinator wants done

    def _event(self, event: gate.CoordinatorEvent, swallowed: int = 0) -> None:
        self._touched = True
        self.watch.event(event)
        for effect in self.coordinator.handle(event):
            self._perform(effect, swallowed)

    def _perform(self, effect: gate.CoordinatorEffect, swallowed: int) -> None:
        match effect:
            case gate.RunEnds():
                self._run_ends(effect)
            case gate.RunDraft():
                self._run_draft(effect)
            case gate.OpenEnds() | gate.CloseEnds():
                self.ends.open_or_close(effect)
            case gate.Send(window, payload):
                self.record.keep(window, payload)
                self.chain.send(0, window, payload)
            case comeback.SendRecord(window):
                self.chain.send(0, window, self.record.rows(window))
            case parking.SendPark():
                self.parked += 1
                self.chain.send(0, order_of(effect, self._ring()))
            case (
                gate.SendCancel()
                | gate.SendRelease()
                | comeback.SendRejoin()
                | parking.SendResume()
                | parking.SendDiscard()
            ):
                self.chain.send(0, order_of(effect, self._ring()))
            case parking.ParkEnds() | parking.LoadEnds() | parking.DropEndsParcel():
                self._parcel_at_ends(effect)
            case GrantCredit(frames):
                hop = len(self.chain.nodes)
                self.chain.grant(hop, frames - swallowed, self._ring())
            case Refuse(_, _, code):
                self.chain.refusals[code] += 1
            case _:
                self.watch.told(effect)

    def _parcel_at_ends(self, effect: parking.ParkingOfEnds) -> None:
        match effect:
            case parking.ParkEnds():
                self.ends.park(effect, self.chain.loses)
            case parking.DropEndsParcel(parcel):
                self.ends.parcels.pop(parcel, None)
            case parking.LoadEnds(session):
                answer = parking.EndsLoadedParcel(session, self.ends.load(effect, self.chain.loses))
                self.chain.after(self.scenario.chain.engine_s, partial(self._event, answer))

    def _ring(self) -> Epoch:
        assert self.coordinator.epoch is not None, "a frame is sent without a ring"
        return self.coordinator.epoch

    def _run_ends(self, effect: gate.RunEnds) -> None:
        self.watch.at_ends(effect)
        results = self.ends.run(effect, self.chain.fails)
        for item, result in zip(effect.items, results, strict=True):
            if isinstance(result, ItemFailed):
                self.watch.engine_failed(item.session)
        done = partial(self._event, gate.EndsDone(results))
        spec = self.scenario.chain
        rows = sum(len(i.tokens) if isinstance(i, gate.HeadItem) else i.rows for i in effect.items)
        call_s = spec.engine_s + spec.ends_row_s * rows
        self.chain.after(call_s if spec.calls is None else spec.calls.ends_s(rows), done)

    def _run_draft(self, effect: gate.RunDraft) -> None:
        if self._draft_is_gone or not self.scenario.coordinator.draft_model:
            raise BrokenInvariant("the draft model is asked, and is not there")
        done = gate.DraftDone(self.draft.run(effect), self.rng.choice((0.0, 0.001, 0.1)))

        def answer() -> None:
            if not self._draft_is_gone:
                self._event(done)

        self.chain.after(self.rng.choice((0.001, 0.01, 0.2)), answer)

    def _lose_draft(self) -> None:
        self.chain.faults["draft gone"] += 1
        self._draft_is_gone = True
        self._event(gate.DraftGone())

    def _crash(self, outage: Outage) -> None:
        for stage in outage.lost:
            self.chain.kill(stage)
        self.chain.faults["crash"] += len(outage.lost)
        self.epoch = Epoch(self.epoch.incarnation, self.epoch.counter + 1)
        put, now_s = self.chain.heap.put, self.chain.heap.now_s
        ready_s = now_s
        if outage.goes_on:
            self.comebacks += 1
            ready_s += outage.detect_s or 0.0
            put(ready_s, partial(self._event, comeback.RingPaused()))
        elif outage.detect_s is not None:
            ready_s += outage.detect_s
            put(ready_s, partial(self._event, gate.RingDown("a stage died")))
        told_s = ready_s
        for stage in range(len(self.chain.nodes)):
            at_s = max(told_s, now_s + self.rng.uniform(0, outage.repair_s))
            goes_on = outage.goes_on and stage not in outage.lost
            raised = node.EpochRaised(self.epoch, goes_on, stage + 1 in outage.lost)
            put(at_s, partial(self.chain.raise_epoch, stage, raised))
            ready_s = max(ready_s, at_s)
        up = gate.RingUp(self.epoch, outage.goes_on, 0 in outage.lost)
        put(ready_s, partial(self._event, up))

    def _hostile(self) -> None:
        """Push in a frame made from one that the receiver has just seen."""
        hop = self.rng.randint(0, len(self.chain.nodes))
        live = set(self.coordinator.holders().values())
        # Who sends a new stage its rows again may say anything: no other can know them.
        seen = [w for w in self.chain.seen[hop][-20:] if w.session in live and not w.replay]
        if not seen:
            return
        self.chain.faults["hostile frame"] += 1
        origin = self.rng.choice(seen)
        if hop < len(self.chain.nodes):
            self._forge_at_stage(hop, origin)
        else:
            self._forge_at_gateway(origin)

    def _forge_at_stage(self, stage: int, origin: Window) -> None:
        machine = self.chain.nodes[stage].machine
        if machine is None:
            return
        held = machine.holders().get(origin.slot) == origin.session
        window = forge(self.rng, origin, held=held)
        self.watch.tainted(window.session)
        charged = window.epoch == machine.epoch and machine.upstream_credits > 0
        self.chain.at_stage(stage, node.WindowArrived(window, b""), int(charged))

    def _forge_at_gateway(self, origin: Window) -> None:
        window = forge(self.rng, origin, held=True)
        self.watch.tainted(window.session)
        charged = window.epoch == self.coordinator.epoch and self.coordinator.returns.given > 0
        unusable = WindowUnusable(window, "payload", "the wrong length")
        event = self.rng.choice((gate.WindowReturned(window, b""), unusable))
        self._event(event, int(charged))
