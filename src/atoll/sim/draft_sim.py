"""Rollback simulation: windows of wrong guesses, cancelled or overwritten.

A gateway of its own drives a chain of `Stage` machines the way speculative
decoding does: it knows the right tokens, sends several windows ahead, some of
them wrong from some position on, then rolls back with `keep`, with or without
a cancel. Every row that comes back for a right prefix must be the whole
model's row.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from functools import partial

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import F16_SCALED, Cancel, Release, Window
from atoll.ring.coordinator_messages import SessionRefused
from atoll.ring.messages import Payload
from atoll.ring.stage_messages import StageConfig
from atoll.sim.chain import Chain
from atoll.sim.fake_model import FakeShard, embed, pack, unpack
from atoll.sim.ring_sim import failure_of, settle
from atoll.sim.scenario import ChainSpec
from atoll.sim.traffic import BrokenInvariant, GatewayCredits, Message, require

_EPOCH = Epoch(1, 1)
_AHEAD = 4
_STEP_S = 0.01
_GIVE_UP_RATE = 0.02


@dataclass(frozen=True, slots=True)
class DraftReport:
    """What happened in a run that broke nothing; counts."""

    seed: int
    events: int
    windows: int
    rollbacks: int
    rows_checked: int


@dataclass(frozen=True, slots=True)
class _Sent:
    seq: int
    keep: int
    rows: int
    right: int
    """Rows from the first on whose whole prefix is right."""


@dataclass(slots=True)
class _Stream:
    """One session's right tokens, what the whole model makes of them, and how far it is."""

    id: SessionId
    slot: Slot
    tokens: list[int]
    expected: list[int]
    position: int = 0
    """Where the next window would go on."""
    verified: int = 0
    """Positions whose right rows came back, in order: every stage holds them."""
    wrong_from: int | None = None
    next_seq: int = 0
    cancelled: int = -1
    released: bool = False
    out: deque[_Sent] = field(default_factory=deque)

    @property
    def due(self) -> int:
        """Windows on their way that will come back."""
        return sum(sent.seq > self.cancelled for sent in self.out)


def run_draft_seed(seed: int) -> DraftReport:
    """Simulate one seed's streams to their end.

    Raises:
        SimFailure: A row is wrong, a window is refused, or a stage leaks.
    """
    sim = DraftSim(random.Random(seed))  # noqa: S311 - replayable, nothing secret
    settle(seed, sim.chain, sim.check)
    try:
        sim.check_settled()
    except BrokenInvariant as fault:
        raise failure_of(seed, sim.chain, str(fault)) from fault
    return DraftReport(seed, sim.chain.heap.taken, sim.windows, sim.rollbacks, sim.rows_checked)


class DraftSim:
    """A gateway that guesses, over a chain that computes the whole model."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.windows = self.rollbacks = self.rows_checked = 0
        n_stages = rng.randint(1, 3)
        n_layers = n_stages + rng.randint(0, 2)
        context = rng.randint(8, 40)
        n_slots = rng.randint(1, 4)
        self._may_send = self._agreed = credits = rng.choice((2, 4, 16))
        stage = StageConfig(
            n_slots=n_slots,
            context=context,
            rows_max=12,
            credits=credits,
            downstream_credits=credits,
            queue_max=credits,
            outbox_max=rng.choice((1, 8)),
        )
        inner = sorted(rng.sample(range(1, n_layers), n_stages - 1))
        spec = ChainSpec((0, *inner, n_layers), (stage,) * n_stages, 0.01, 0.01, 0.0)
        self.chain = Chain(spec, self, _EPOCH, rng)
        self._waiting = [
            self._new_stream(i, n_layers, rng.randint(1, context))
            for i in range(rng.randint(1, 2 * n_slots))
        ]
        self._streams: dict[SessionId, _Stream] = {}
        for slot in range(n_slots):
            self._begin(Slot(slot))

    def check(self) -> None:
        """Check what must hold after every event."""
        self.chain.traffic.check_stages(self.chain.machines)
        gateway = GatewayCredits(self._may_send, self._agreed, 0, self._agreed)
        stages = [machine for machine in self.chain.machines if machine is not None]
        self.chain.traffic.check_credits(stages, gateway, _EPOCH)

    def check_settled(self) -> None:
        """Check what must hold when nothing is left to happen."""
        require(not self._streams and not self._waiting, "a stream never ends")
        shards = [at.shard for at in self.chain.nodes]
        self.chain.traffic.check_settled(self.chain.machines, shards)

    def _new_stream(self, index: int, n_layers: int, length: int) -> _Stream:
        tokens = [self.rng.randrange(1000) for _ in range(length)]
        rows = [embed(token) for token in tokens]
        expected = FakeShard(0, n_layers).run(Slot(0), 0, rows)
        return _Stream(SessionId(100 + index), Slot(0), tokens, expected)

    def _begin(self, slot: Slot) -> None:
        if self._waiting:
            stream = self._waiting.pop()
            stream.slot = slot
            self._streams[stream.id] = stream
            self.chain.after(_STEP_S, partial(self._step, stream))

    # Sending

    def _step(self, stream: _Stream) -> None:
        if stream.released:
            return
        # Some streams are given up with windows on their way.
        if stream.verified == len(stream.tokens) or self.rng.random() < _GIVE_UP_RATE:
            self._finish(stream)
            return
        if stream.wrong_from is not None and self.rng.random() < 0.4:
            self._roll_back(stream)
        elif self._may_send and stream.due < _AHEAD:
            self._send(stream)
        self.chain.after(_STEP_S, partial(self._step, stream))

    def _send(self, stream: _Stream) -> None:
        rows = min(self.rng.randint(1, 4), len(stream.tokens) - stream.position)
        if rows < 1:
            return
        keep = stream.position
        tokens = stream.tokens[keep : keep + rows]
        if stream.wrong_from is None and self.rng.random() < 0.4:
            stream.wrong_from = keep + self.rng.randrange(rows)
        right = rows if stream.wrong_from is None else max(0, stream.wrong_from - keep)
        tokens[right:] = [5000 + self.rng.randrange(1000) for _ in tokens[right:]]
        seq = stream.next_seq
        window = Window(stream.id, stream.slot, _EPOCH, seq, keep, rows, F16_SCALED)
        stream.out.append(_Sent(seq, keep, rows, right))
        stream.next_seq += 1
        stream.position += rows
        self._may_send -= 1
        self.windows += 1
        self.chain.send(0, window, pack([embed(token) for token in tokens]))

    def _roll_back(self, stream: _Stream) -> None:
        """Go back to the first wrong position, or, as a cancel drops more, to the verified."""
        self.rollbacks += 1
        assert stream.wrong_from is not None, "nothing is wrong"
        stream.position = stream.wrong_from
        stream.wrong_from = None
        # A cancel before anything came back could leave a later stage without
        # the session's first window: a gateway guesses only after its prompt.
        if stream.verified and self.rng.random() < 0.6:
            stream.cancelled = stream.next_seq - 1
            stream.position = stream.verified
            self.chain.send(0, Cancel(stream.id, _EPOCH, stream.cancelled))

    def _finish(self, stream: _Stream) -> None:
        stream.released = True
        if stream.out and self.rng.random() < 0.5:
            stream.cancelled = stream.next_seq - 1
            self.chain.send(0, Cancel(stream.id, _EPOCH, stream.cancelled))
        self.chain.send(0, Release(stream.id, stream.slot, _EPOCH))

    # What the chain tells the gateway

    def frame_returned(self, message: Message, payload: Payload) -> None:
        """Check a window's rows; begin the next stream where one was released."""
        match message:
            case Window():
                self.chain.grant(len(self.chain.nodes), 1, _EPOCH)
                self._give_back(message, payload)
            case Release(session, slot):
                due = self._streams.pop(session).due
                require(not due, f"the release of {session} overtook {due} windows")
                self._begin(slot)
            case Cancel():
                pass

    def _give_back(self, window: Window, payload: Payload) -> None:
        stream = self._streams[window.session]
        while stream.out and stream.out[0].seq < window.seq:
            dropped = stream.out.popleft().seq
            require(dropped <= stream.cancelled, f"window {dropped} of {stream.id} is missing")
        sent = stream.out.popleft()
        same = (sent.seq, sent.keep, sent.rows) == (window.seq, window.keep, window.rows)
        require(same, f"{window} came back for {sent}")
        rows = unpack(payload, window.rows)[: sent.right]
        due = stream.expected[sent.keep : sent.keep + sent.right]
        require(rows == due, f"session {stream.id}: rows at {sent.keep} are wrong")
        self.rows_checked += len(rows)
        # Rows of a stale window count too: every stage has computed them. But
        # after a later rollback with a cancel the caches may end before them.
        if sent.seq > stream.cancelled and sent.keep <= stream.verified:
            stream.verified = max(stream.verified, sent.keep + sent.right)

    def granted(self, frames: int, epoch: Epoch) -> None:
        """Credits from the first stage."""
        require(epoch == _EPOCH, f"credits of epoch {epoch}")
        self._may_send += frames

    def refused(self, refused: SessionRefused, epoch: Epoch) -> None:
        """No window of this gateway may be refused."""
        raise BrokenInvariant(f"refused in epoch {epoch}: {refused}")

    def engine_failed(self, session: SessionId) -> None:
        """No engine fails here."""
        raise BrokenInvariant(f"the engine failed on {session}")
