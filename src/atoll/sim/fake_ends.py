"""The gateway's ends over the model of hashes: what a real ends process is asked to do."""

from __future__ import annotations

from collections.abc import Callable

from atoll.domain.generation import GenerateRequest, Sampled
from atoll.domain.ids import SessionId, Slot
from atoll.ring.coordinator_messages import (
    CloseEnds,
    EndsItem,
    EndsResult,
    HeadDone,
    HeadItem,
    OpenEnds,
    RunEnds,
    TailDone,
    TailItem,
)
from atoll.ring.messages import ItemFailed
from atoll.ring.parking_messages import LoadEnds, ParkEnds
from atoll.sim.fake_model import FakeShard, ModelMisuse, embed, pack, sample, unpack


class FakeEnds:
    """First and last layers of a model of hashes, and a sampler per open session."""

    def __init__(self, head: FakeShard, tail: FakeShard) -> None:
        self._head = head
        self._tail = tail
        self._open: dict[Slot, tuple[SessionId, GenerateRequest]] = {}
        self.parcels: dict[SessionId, tuple[bytes, bytes]] = {}

    @property
    def slots_held(self) -> int:
        """Slots with a sampler or anything in a cache."""
        return max(len(self._open), self._head.slots_held, self._tail.slots_held)

    def open_or_close(self, effect: OpenEnds | CloseEnds) -> None:
        """Do what is asked."""
        if isinstance(effect, OpenEnds):
            self.open(effect)
        else:
            self.close(effect)

    def open(self, effect: OpenEnds) -> None:
        """Set up a session.

        Raises:
            ModelMisuse: Its slot is in use.
        """
        if effect.slot in self._open:
            raise ModelMisuse(f"slot {effect.slot} is opened twice")
        self._open[effect.slot] = (effect.session, effect.request)

    def close(self, effect: CloseEnds) -> None:
        """Forget a session and, unless they are kept, its caches.

        Raises:
            ModelMisuse: Its slot is not its own.
        """
        if effect.slot in self._open:
            self._request(effect.session, effect.slot)
            del self._open[effect.slot]
        elif effect.keep:
            raise ModelMisuse(f"slot {effect.slot} rests already")
        if not effect.keep:
            self._head.drop(effect.slot)
            self._tail.drop(effect.slot)

    def park(self, effect: ParkEnds, loses: Callable[[], bool]) -> None:
        """Take a slot's caches out; `loses` says whether they get lost.

        Raises:
            ModelMisuse: It is open, or holds less.
        """
        if effect.slot in self._open:
            raise ModelMisuse(f"slot {effect.slot} is parked while it is open")
        head = self._head.take(effect.slot, effect.tokens)
        tail = self._tail.take(effect.slot, effect.tokens)
        if head is None or tail is None:
            raise ModelMisuse(f"slot {effect.slot} of the ends holds no {effect.tokens} tokens")
        if not loses():
            self.parcels[effect.session] = (head, tail)

    def load(self, effect: LoadEnds, loses: Callable[[], bool]) -> bool:
        """Put a parcel into a slot; whether it was there.

        Raises:
            ModelMisuse: The slot is not the session's.
        """
        self._request(effect.session, effect.slot)
        parcel = self.parcels.get(effect.parcel)
        if parcel is None or loses():
            return False
        self._head.put(effect.slot, effect.tokens, parcel[0])
        self._tail.put(effect.slot, effect.tokens, parcel[1])
        return True

    def run(self, effect: RunEnds, fails: Callable[[], bool]) -> tuple[EndsResult, ...]:
        """Compute every item, except those for which `fails` says so.

        Raises:
            ModelMisuse: An item, or their combination, that must not be asked for.
        """
        if len({item.session for item in effect.items}) != len(effect.items):
            raise ModelMisuse("a session is twice in one call")
        if len({type(item) for item in effect.items}) != 1:
            raise ModelMisuse("heads and tails are mixed")
        kinds = {(t.rows, t.exact) for t in effect.items if isinstance(t, TailItem)}
        if len(kinds) > 1:
            raise ModelMisuse(f"tails of several kinds in one call: {kinds}")
        return tuple(ItemFailed("injected") if fails() else self._item(i) for i in effect.items)

    def _request(self, session: SessionId, slot: Slot) -> GenerateRequest:
        holder, request = self._open.get(slot, (None, None))
        if holder != session or request is None:
            raise ModelMisuse(f"slot {slot} is not open for session {session}")
        return request

    def _item(self, item: EndsItem) -> EndsResult:
        request = self._request(item.session, item.slot)
        if isinstance(item, HeadItem):
            rows = [embed(token) for token in item.tokens]
            return HeadDone(pack(self._head.run(item.slot, item.keep, rows)))
        rows = self._tail.run(item.slot, item.keep, unpack(item.payload, item.rows))
        if not item.sample:
            return TailDone()
        *accepted, chosen = self._choose(item, rows[-item.checked :], request)
        if chosen.finish is not None or not item.chain:
            return TailDone(chosen, accepted=tuple(accepted))
        if item.checked > 1:
            raise ModelMisuse("a window with guesses is not chained")
        row = self._head.run(item.slot, item.keep + item.rows, [embed(chosen.token)])
        return TailDone(chosen, pack(row))

    def _choose(self, item: TailItem, rows: list[int], request: GenerateRequest) -> list[Sampled]:
        """The tokens behind the checked rows, up to the first that was not guessed."""
        if not item.checked - 1 <= len(item.guesses) <= item.checked <= item.rows:
            raise ModelMisuse(f"{len(item.guesses)} guesses for {item.checked} rows")
        found: list[Sampled] = []
        for i, row in enumerate(rows):
            found.append(sample(row, request, last=item.last and i + 1 == item.checked))
            if found[-1].finish or item.guesses[i : i + 1] != (found[-1].token,):
                break
        return found
