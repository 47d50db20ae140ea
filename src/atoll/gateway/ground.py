"""What all rings of a gateway stand on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from atoll.domain.errors import AtollError
from atoll.domain.ids import Epoch
from atoll.engine.draft_messages import DraftOptions
from atoll.engine.ends_client import EndsProcess
from atoll.gateway.ends_keeper import MakeEnds
from atoll.gateway.numeric_classes import NumericClasses
from atoll.gateway.options import RingOptions
from atoll.members.fleet import Fleet
from atoll.model.manifest import Manifest
from atoll.net.identity import Identity
from atoll.net.transport import Transport
from atoll.ring.drafting import Lookups


class Rearranged(AtollError):
    """The ring ends because it is to be formed of other nodes."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What every ring stands on.

    Args:
        manifest: The model in numbers.
        fleet: The nodes.
        identity: The gateway's.
        options: A ring's shape.
        tell: Takes one line at a time for the operator to read.
        draft: The draft model that each ring guesses with; None: there is none.
        lookups: Make guesses from what was said; they outlast a ring.
        ends_process: Makes the ends' process.
        classes: Which bits parts of the model come to; they outlast a ring.
    """

    manifest: Manifest
    fleet: Fleet
    identity: Identity
    options: RingOptions
    tell: Callable[[str], None]
    draft: DraftOptions | None = None
    lookups: Lookups = field(default_factory=Lookups)
    ends_process: MakeEnds = EndsProcess
    classes: NumericClasses = field(default_factory=NumericClasses)


@dataclass(frozen=True, slots=True)
class Reach:
    """How nodes are dialled, and our TCP port that they dial."""

    transport: Transport
    link_port: int
    next_epoch: Callable[[], Epoch]
