"""Chain: `Stage` machines over a model of hashes, joined by links that delay by chance.

It is to the stages what a live node is: it passes frames in, runs their
batches, sends what they forward. Each link keeps its own order; different
links, grants and reports to the gateway overtake each other.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from atoll.domain.ids import Epoch, SessionId
from atoll.domain.wire import Cancel, Discard, Rejoin, Resume, Window
from atoll.ring import stage_messages as node
from atoll.ring.coordinator_messages import SessionRefused
from atoll.ring.messages import GrantCredit, Granted, ItemFailed, Payload, Refuse
from atoll.ring.stage import Stage
from atoll.sim.clock import EventHeap, FifoLink
from atoll.sim.fake_model import FakeShard, ModelMisuse, pack, unpack
from atoll.sim.fake_record import FakeRecord
from atoll.sim.scenario import ChainSpec
from atoll.sim.traffic import Message, Traffic
from atoll.sim.waits import Waits

Happening = Callable[[], None]
"""An event in the heap: what to do when its time has come."""


class Gateway(Protocol):
    """Whoever is at both ends of the chain."""

    def frame_returned(self, message: Message, payload: Payload) -> None:
        """A frame has passed the last stage."""

    def granted(self, frames: int, epoch: Epoch) -> None:
        """The first stage of `epoch` takes more windows."""

    def refused(self, refused: SessionRefused, epoch: Epoch) -> None:
        """A stage of `epoch` reports a window it did not take."""

    def engine_failed(self, session: SessionId) -> None:
        """An engine was made to fail on a window of this session."""


@dataclass(slots=True)
class Node:
    """A stage, its engine and its parcels; `machine` is None while it is dead."""

    machine: Stage | None
    shard: FakeShard
    life: int = 0
    parcels: dict[SessionId, bytes] = field(default_factory=dict)
    record: FakeRecord = field(default_factory=FakeRecord)


class Chain:
    """N stages and N + 1 hops, the last of which ends at the gateway."""

    def __init__(self, spec: ChainSpec, gateway: Gateway, epoch: Epoch, rng: random.Random) -> None:
        self.spec = spec
        self.rng = rng
        self.heap: EventHeap[Happening] = EventHeap()
        self.traffic = Traffic()
        self.waits = Waits([config.light_rows for config in spec.stages])
        self.refusals: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.seen: list[list[Window]] = [[] for _ in range(len(spec.stages) + 1)]
        self.touched: set[int] = set(range(len(spec.stages)))
        """Stages that may have changed since this was last cleared."""
        self.nodes = [
            Node(Stage(config, epoch), self._new_shard(i)) for i, config in enumerate(spec.stages)
        ]
        self._gateway = gateway
        self._forward = [FifoLink() for _ in self.seen]
        self._back = [FifoLink() for _ in self.seen]
        self._control = [FifoLink() for _ in self.nodes]

    @property
    def machines(self) -> list[Stage | None]:
        """The stages' machines, in ring order."""
        return [at.machine for at in self.nodes]

    def after(self, mean_s: float, happening: Happening) -> None:
        """Let something happen after a time drawn with this mean."""
        self.heap.put(self.heap.now_s + self._delay_s(mean_s), happening)

    def fails(self) -> bool:
        """Draw whether an engine item fails."""
        fails = self.rng.random() < self.spec.fail_rate
        if fails:
            self.faults["engine failure"] += 1
        return fails

    def send(self, hop: int, message: Message, payload: Payload = b"") -> None:
        """Put a frame on the link of `hop`."""
        self.traffic.frame_sent(hop, message)
        at_s = self._forward[hop].arrival_s(self.heap.now_s, self._delay_s(self.spec.link_s))
        self.heap.put(at_s, partial(self._arrive, hop, message, payload))

    def grant(self, hop: int, frames: int, epoch: Epoch) -> None:
        """Send credits back to the sender of `hop`, on the links of `epoch`."""
        if not frames:
            return
        self.traffic.grant_sent(hop, frames, epoch)
        at_s = self._back[hop].arrival_s(self.heap.now_s, self._delay_s(self.spec.link_s))
        self.heap.put(at_s, partial(self._granted, hop, frames, epoch))

    def at_stage(self, stage: int, event: node.StageEvent, swallowed: int = 0) -> None:
        """Let a stage take an event and do what it returns.

        `swallowed` credits are kept from the sender: they answer a frame it
        did not send.
        """
        machine = self.nodes[stage].machine
        if machine is None:
            return
        self.touched.add(stage)
        for effect in machine.handle(event):
            match effect:
                case node.RunBatch(items):
                    self._run_batch(stage, items)
                case node.Forward(window, payload):
                    self.nodes[stage].record.keep(window, payload)
                    self.send(stage + 1, window, payload)
                case node.ForwardRecord(window):
                    self.send(stage + 1, window, self.nodes[stage].record.rows(window))
                case (
                    node.ForwardCancel(order)
                    | node.ForwardRelease(order)
                    | node.ForwardResume(order)
                    | node.ForwardDiscard(order)
                    | node.ForwardRejoin(order)
                ):
                    self.send(stage + 1, order)
                case node.DropSlot(slot):
                    self.nodes[stage].shard.drop(slot)
                case GrantCredit(frames):
                    self.grant(stage, frames - swallowed, machine.epoch)
                case Refuse():
                    self._refused(stage, effect, machine.epoch)
                case _:
                    self._parcel(stage, effect)

    def kill(self, stage: int) -> None:
        """A stage dies, and its caches with it."""
        lost = self.nodes[stage]
        self.touched.add(stage)
        lost.machine, lost.shard = None, self._new_shard(stage)
        lost.parcels.clear()
        lost.record = FakeRecord()
        lost.life += 1
        self.waits.lost(stage)

    def raise_epoch(self, stage: int, raised: node.EpochRaised) -> None:
        """A stage hears of a new epoch; one that died comes back with it."""
        hit = self.nodes[stage]
        self.touched.add(stage)
        self.waits.lost(stage)
        if not raised.goes_on:
            # The keys are an engine process's.
            hit.parcels.clear()
        if hit.machine is None:
            hit.machine = Stage(self.spec.stages[stage], Epoch(0, 0))
        self.at_stage(stage, raised)

    def _new_shard(self, stage: int) -> FakeShard:
        return FakeShard(self.spec.cuts[stage], self.spec.cuts[stage + 1])

    def _delay_s(self, mean_s: float) -> float:
        return self.rng.expovariate(1 / mean_s)

    def _arrive(self, hop: int, message: Message, payload: Payload) -> None:
        self.traffic.frame_arrived(hop, message)
        if isinstance(message, Window):
            self.seen[hop].append(message)
        if hop == len(self.nodes):
            self._gateway.frame_returned(message, payload)
            return
        self.waits.arrived(hop, message)
        match message:
            case Window():
                self.at_stage(hop, node.WindowArrived(message, payload))
            case Cancel():
                self.at_stage(hop, node.CancelArrived(message))
            case Resume():
                self.at_stage(hop, node.ResumeArrived(message))
            case Rejoin():
                self.at_stage(hop, node.RejoinArrived(message))
            case Discard():
                self.at_stage(hop, node.DiscardArrived(message))
            case _:
                self.at_stage(hop, node.ReleaseArrived(message))

    def _granted(self, hop: int, frames: int, epoch: Epoch) -> None:
        """Links are made anew with each epoch: what old ones carried back is lost."""
        self.traffic.grant_arrived(hop, frames, epoch)
        if hop == 0:
            self._gateway.granted(frames, epoch)
            return
        machine = self.nodes[hop - 1].machine
        if machine is not None and machine.epoch == epoch:
            self.at_stage(hop - 1, Granted(frames))

    def _parcel(self, stage: int, effect: node.ParcelEffect | node.DropRecord) -> None:
        """Take out and put in at once, in order with the batches; a parcel may get lost."""
        at, life = self.nodes[stage], self.nodes[stage].life
        match effect:
            case node.DropRecord(session):
                at.record.drop(session)
            case node.TakeParcel(slot, parcel, tokens):
                taken = at.shard.take(slot, tokens)
                if taken is None:
                    raise ModelMisuse(f"slot {slot} of stage {stage} holds no {tokens} tokens")
                if not self.loses():
                    at.parcels[parcel] = taken
            case node.FetchParcel(session, parcel):
                found = None if self.loses() else at.parcels.get(parcel)
                event: node.StageEvent = node.ParcelFetched(session, found)
                self.after(self.spec.engine_s, partial(self._batch_over, stage, life, event))
            case node.LoadParcel(session, slot, _, tokens, data):
                is_loaded = not self.loses()
                if is_loaded:
                    at.shard.put(slot, tokens, bytes(data))
                event = node.ParcelLoaded(session, is_loaded)
                self.after(self.spec.engine_s, partial(self._batch_over, stage, life, event))
            case node.DropParcel(parcel):
                at.parcels.pop(parcel, None)

    def loses(self) -> bool:
        """Draw whether a parcel gets lost."""
        loses = self.rng.random() < self.spec.lose_rate
        if loses:
            self.faults["lost parcel"] += 1
        return loses

    def _refused(self, stage: int, refuse: Refuse, epoch: Epoch) -> None:
        self.refusals[refuse.code] += 1
        if refuse.report:
            told = SessionRefused(refuse.session, refuse.seq, refuse.code, refuse.problem)
            at_s = self._control[stage].arrival_s(self.heap.now_s, self._delay_s(self.spec.link_s))
            self.heap.put(at_s, partial(self._gateway.refused, told, epoch))

    def _run_batch(self, stage: int, items: tuple[node.BatchItem, ...]) -> None:
        """Compute at once, in order with the drops; the answer takes its time."""
        self.traffic.batch(self.spec.stages[stage], items)
        self.waits.begins(stage, items)
        whole = self.fails() and self.fails()
        outputs: list[Payload | ItemFailed] = []
        for item in items:
            rows = unpack(item.payload, item.rows)
            if whole or self.fails():
                self._gateway.engine_failed(item.session)
                outputs.append(ItemFailed("injected"))
            else:
                outputs.append(pack(self.nodes[stage].shard.run(item.slot, item.keep, rows)))
        done: node.StageEvent = node.BatchDone(tuple(outputs))
        if whole:
            done = node.BatchFailed("injected")
        life = self.nodes[stage].life
        self.after(self._call_s(stage, items), partial(self._batch_over, stage, life, done))

    def _call_s(self, stage: int, items: tuple[node.BatchItem, ...]) -> float:
        if self.spec.calls is not None:
            return self.spec.calls.stage_s(stage, items)
        return self.spec.engine_s + self.spec.row_s * sum(item.rows for item in items)

    def _batch_over(self, stage: int, life: int, done: node.StageEvent) -> None:
        if self.nodes[stage].life == life:
            self.at_stage(stage, done)
