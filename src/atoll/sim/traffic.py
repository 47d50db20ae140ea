"""Traffic: what travels between the machines of a ring, and its invariants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atoll.domain.ids import Epoch
from atoll.domain.wire import Order, Window
from atoll.ring.stage import Stage
from atoll.ring.stage_messages import BatchItem, StageConfig
from atoll.sim.fake_model import FakeShard

Message = Window | Order


class BrokenInvariant(Exception):
    """Something that must always hold does not."""


def require(holds: bool, problem: str) -> None:
    """Raise `BrokenInvariant` with `problem` unless it `holds`."""
    if not holds:
        raise BrokenInvariant(problem)


@dataclass(frozen=True, slots=True)
class GatewayCredits:
    """The gateway's two ends of the credits, counts of windows."""

    may_send: int
    given: int
    queued: int
    agreed: int


class Traffic:
    """Counts frames and grants on their way, by hop and epoch; hop n ends at the gateway."""

    def __init__(self) -> None:
        self._frames: Counter[tuple[int, Epoch]] = Counter()
        self._grants: Counter[tuple[int, Epoch]] = Counter()
        self.moved: set[int] = set()
        """Hops whose sums may have changed since this was last cleared."""
        self.batches = self.replayed = 0
        self.largest_batch = 0

    def frame_sent(self, hop: int, message: Message) -> None:
        """A frame left for `hop`."""
        if isinstance(message, Window):
            self._frames[hop, message.epoch] += 1
            self.moved.add(hop)
            self.replayed += message.replay

    def frame_arrived(self, hop: int, message: Message) -> None:
        """A frame arrived at `hop`, or was lost there with its receiver."""
        if isinstance(message, Window):
            self._frames[hop, message.epoch] -= 1
            self.moved.add(hop)

    def grant_sent(self, hop: int, frames: int, epoch: Epoch) -> None:
        """Credits left for the sender of `hop`."""
        require(frames > 0, f"hop {hop} grants {frames} frames")
        self._grants[hop, epoch] += frames
        self.moved.add(hop)

    def grant_arrived(self, hop: int, frames: int, epoch: Epoch) -> None:
        """Credits arrived at the sender of `hop`, or were lost with it."""
        self._grants[hop, epoch] -= frames
        self.moved.add(hop)

    def batch(self, config: StageConfig, items: tuple[BatchItem, ...]) -> None:
        """Check an engine call of a stage."""
        self.batches += 1
        self.largest_batch = max(self.largest_batch, len(items))
        require(len({item.session for item in items}) == len(items), "a session twice in a batch")
        require(len({item.slot for item in items}) == len(items), "a slot twice in a batch")
        kinds = {(item.rows, item.exact) for item in items}
        require(len(kinds) == 1, f"a batch of several kinds: {kinds}")
        rows, exact = items[0].rows, items[0].exact
        require(rows * len(items) <= config.rows_max, f"{len(items)} times {rows} rows")
        require(not exact or rows <= config.exact_rows_max, f"{rows} exact rows in a call")
        ends = max(item.keep + item.rows for item in items)
        require(ends <= config.context, f"position {ends} of {config.context}")

    def check_stages(
        self, stages: Sequence[Stage | None], touched: Iterable[int] | None = None
    ) -> None:
        """Check each stage's own bounds, or only those of the stages that were touched.

        Raises:
            BrokenInvariant: One does not hold.
        """
        for at in range(len(stages)) if touched is None else touched:
            stage = stages[at]
            if stage is not None:
                if len(stage.holders()) != stage.sessions:
                    raise BrokenInvariant(f"two sessions hold a slot of stage {at}")
                if stage.outbox >= stage.config.outbox_max + stage.config.n_slots:
                    raise BrokenInvariant(f"outbox of stage {at}: {stage.outbox}")
                if stage.queued > stage.config.queue_max:
                    raise BrokenInvariant(f"queue of stage {at}: {stage.queued}")

    def check_credits(
        self,
        stages: Sequence[Stage],
        gateway: GatewayCredits,
        epoch: Epoch,
        hops: Iterable[int] | None = None,
    ) -> None:
        """Check that no credit of `epoch` was lost or made.

        For each hop, or those of `hops`: what the sender may send, plus frames and grants on
        their way, is what the receiver has given; that, plus what the
        receiver queues, is what was agreed.

        Raises:
            BrokenInvariant: The sums differ.
        """
        last = len(stages)
        for hop in range(last + 1) if hops is None else hops:
            may = stages[hop - 1].downstream_credits if hop else gateway.may_send
            if hop < last:
                stage = stages[hop]
                given, queued = stage.upstream_credits, stage.queued
                agreed = stage.config.credits
            else:
                given, queued, agreed = gateway.given, gateway.queued, gateway.agreed
            travelling = self._frames[hop, epoch] + self._grants[hop, epoch]
            if may < 0 or given < 0 or queued < 0:
                raise BrokenInvariant(f"hop {hop}: credits {may}, {given}, {queued}")
            if given + queued != agreed:
                raise BrokenInvariant(f"hop {hop}: {given}, {queued} queued of {agreed}")
            if may + travelling != given:
                raise BrokenInvariant(f"hop {hop}: {may} + {travelling} are not {given}")

    def check_settled(self, stages: Sequence[Stage | None], shards: Sequence[FakeShard]) -> None:
        """Check that the stages hold nothing when nothing is left to happen.

        Raises:
            BrokenInvariant: Something leaked.
        """
        for at, (stage, shard) in enumerate(zip(stages, shards, strict=True)):
            if stage is None:
                raise BrokenInvariant(f"stage {at} stays dead")
            left = (stage.sessions, stage.queued, stage.outbox, stage.running, shard.slots_held)
            require(not any(left), f"stage {at} holds {left}")
