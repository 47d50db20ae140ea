"""Which conversations at rest leave the slots as parcels, and which parcels are kept.

Pure. Stages and ends keep the parcels themselves; here is known which there are, and
what they begin with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId


@dataclass(frozen=True, slots=True)
class ParkingRates:
    """What moving caches and computing them again takes on this ring.

    Args:
        bytes_per_token: Of all parcels of a conversation together, ends and stages.
        tier_bytes_s: Bytes that go out of an engine, into its tier and back, a second.
        prefill_tokens_s: Tokens of a prompt that the ring computes a second.
        lap_s: What a message round the ring takes.
    """

    bytes_per_token: float
    tier_bytes_s: float
    prefill_tokens_s: float
    lap_s: float = 0.0


def is_moving_cheaper(moved: int, saved: int, rates: ParkingRates) -> bool:
    """Whether tokens are better moved out of the slots and back than computed again.

    moving = 2 x moved x bytes_per_token / tier_bytes_s + 2 x lap_s: out and in, each by
    a message round the ring, at worst one stage after the other.
    computing = saved / prefill_tokens_s.

    Args:
        moved: Tokens whose caches are moved.
        saved: Those that need not be computed then: fewer, where only a part is shared.
        rates: What is known of the ring.
    """
    moving_s = 2 * moved * rates.bytes_per_token / rates.tier_bytes_s + 2 * rates.lap_s
    return moving_s < saved / rates.prefill_tokens_s


@dataclass(frozen=True, slots=True)
class Parking:
    """Whether and how much is parked.

    Args:
        rates: What is known of the ring when it is formed.
        held_max: Most tokens of all parcels together: what those may take who have least room.
        tokens_max: The largest parcel that a stage or the ends can make, tokens.
    """

    rates: ParkingRates
    held_max: int
    tokens_max: int


@dataclass(frozen=True, slots=True, eq=False)
class Parked:
    """A conversation whose caches are parcels; `since` is the tick at which it was parked."""

    parcel: SessionId
    group: str
    exact: bool
    tokens: tuple[int, ...]
    since: int

    def shared_with(self, request: GenerateRequest) -> int:
        """How many tokens of a request are computed here already."""
        if (request.group, request.exact) != (self.group, self.exact):
            return 0
        return shared_tokens(self.tokens, request.known)


def shared_tokens(computed: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens of a prompt are among those computed before, from the first on.

    The last token of a prompt is computed in any case, as what follows it is sampled.
    """
    most = min(len(computed), len(prompt) - 1)
    pairs = zip(computed[:most], prompt[:most], strict=True)
    return next((i for i, (old, new) in enumerate(pairs) if old != new), max(0, most))


class ParkingLot:
    """The parcels of one ring that are believed to be whole.

    Args:
        parking: Its bounds; None: nothing is parked.
        shared_min: Tokens that must be shared.
    """

    def __init__(self, parking: Parking | None, shared_min: int) -> None:
        self._parking = parking
        self._shared_min = shared_min
        self._rates = parking.rates if parking else None
        self._parked: list[Parked] = []
        self.ticks = 0

    @property
    def parked(self) -> int:
        """Conversations."""
        return len(self._parked)

    @property
    def parked_tokens(self) -> int:
        """Of all of them."""
        return sum(len(parked.tokens) for parked in self._parked)

    def tick(self, rates: ParkingRates | None) -> None:
        """Time passes; perhaps it was measured what moving and computing take."""
        self.ticks += 1
        if self._rates is not None and rates is not None:
            self._rates = rates

    def is_worth(self, tokens: int, saved: int | None = None) -> bool:
        """Whether so many tokens are worth moving, for those that they save."""
        if self._parking is None or self._rates is None or tokens < self._shared_min:
            return False
        if tokens > min(self._parking.tokens_max, self._parking.held_max):
            return False
        return is_moving_cheaper(tokens, tokens if saved is None else saved, self._rates)

    def add(self, parcel: SessionId, request: GenerateRequest, tokens: Sequence[int]) -> None:
        """A conversation was parked."""
        added = Parked(parcel, request.group, request.exact, tuple(tokens), self.ticks)
        self._parked.append(added)

    def crowd_out(self) -> list[SessionId]:
        """Parcels that must go for the bound, the least valuable first; they are forgotten.

        A parcel's value is the work it saves times the chance that it does:
        tokens / (1 + age), where nothing is known of a conversation but when it rested.
        """
        gone: list[SessionId] = []
        while self._parking is not None and self.parked_tokens > self._parking.held_max:
            least = min(self._parked, key=lambda p: len(p.tokens) / (1 + self.ticks - p.since))
            self._parked.remove(least)
            gone.append(least.parcel)
        return gone

    def best(self, request: GenerateRequest) -> tuple[int, Parked | None]:
        """The parcel that saves a request most tokens, if loading it is worth it."""
        found = [(parked.shared_with(request), parked) for parked in self._parked]
        shared, parked = max(found, key=lambda pair: pair[0], default=(0, None))
        enough = parked is not None and shared >= self._shared_min
        if enough and parked is not None and self.is_worth(len(parked.tokens), shared):
            return shared, parked
        return 0, None

    def remove(self, parked: Parked) -> bool:
        """A parcel is lost, or of no more use; False: that was known."""
        if parked not in self._parked:
            return False
        self._parked.remove(parked)
        return True

    def clear(self) -> list[SessionId]:
        """Forget all parcels: which they were."""
        gone = [parked.parcel for parked in self._parked]
        self._parked = []
        return gone


@dataclass(slots=True)
class Coming:
    """A parcel that is being loaded for a session, at the ends and round the ring."""

    parked: Parked
    shared: int
    at_ends: bool | None = None
    """Whether the ends have it; None: they have yet to say."""
    in_ring: bool | None = None
    """Whether every stage has it; None: the message is not back."""

    @property
    def is_over(self) -> bool:
        """Whether all have answered."""
        return self.at_ends is not None and self.in_ring is not None

    @property
    def is_here(self) -> bool:
        """Whether all have it."""
        return bool(self.at_ends and self.in_ring)

    @property
    def is_used_up(self) -> bool:
        """Whether the parcel is of no more use: lost, or mostly what goes on in the slot now.

        One of which little is shared, a system prompt say, stays for its own conversation.
        """
        return not self.is_here or 2 * self.shared >= len(self.parked.tokens)
