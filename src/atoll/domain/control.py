"""What gateway and node say on the control link.

The gateway alone commands: a plan notice is signed with the key the node
pinned at join. Nodes report; they never ask another node to do anything.
"""

from __future__ import annotations

import msgspec

from atoll.domain.address import Address, HostPort
from atoll.domain.bits import Bits
from atoll.domain.ids import Epoch, ModelId, NodeId, SessionId, ShardId
from atoll.domain.lent_memory import Borrower, BorrowerGone, Lent, MemoryGone, MemoryHere
from atoll.domain.measure import Measure, Measured, NotMeasured
from atoll.domain.timing import PeerNotTimed, PeerTimed, TimePeer

CONTROL_BYTES_MAX = 256 * 1024


class Join(msgspec.Struct, frozen=True, tag="join"):
    """A node asks in. `secret` is that of its ticket; empty where it was let in before.

    `address`: where its upstream neighbour can reach it; an empty host of `tls`
    stands for the one from which it came.
    `host_id` is equal for nodes that share a machine (they share its cores).
    `times_peers`: it knows what `time_peer` asks for.
    `encodings`: how rows may come to it; one that does not say knows f32 and f16s.
    `keeps_bytes`: what it keeps of caches of conversations at rest; 0 too where it does
    not know of parcels.
    `borrows_memory`: it knows what `memory_here` tells.
    `lends_bytes`: it computes nothing and lends so much memory; 0: it computes.
    """

    secret: str
    name: str
    address: Address
    host_id: str
    engine_build: str
    memory_free_bytes: int
    version: str
    times_peers: bool = False
    encodings: tuple[str, ...] = ()
    keeps_bytes: int = 0
    borrows_memory: bool = False
    lends_bytes: int = 0


class Source(msgspec.Struct, frozen=True):
    """A node that has a stage's shard already and lends it."""

    node: NodeId
    name: str
    address: Address


class StagePlan(msgspec.Struct, frozen=True):
    """One stage of a plan: who computes layers [first, last) and where it listens.

    The gateway has every shard; `sources` have this one too. `goes_on`: the node keeps
    what the stage holds of sessions, as an epoch before was cut off; otherwise it begins
    with nothing.
    """

    node: NodeId
    name: str
    first: int
    last: int
    shard: ShardId
    address: Address
    sources: tuple[Source, ...] = ()
    goes_on: bool = False


class Plan(msgspec.Struct, frozen=True):
    """Which layer range on which node, in ring order, for one epoch.

    The gateway is at both ends: it computes layers [0, stages[0].first) and
    [stages[-1].last, n_layers), sends to stages[0] and hears from stages[-1].
    `data_offset` is where the weights begin in the model's file, 0 if the
    gateway does not say: a node that has only an address need not search it.
    """

    epoch: Epoch
    model: ModelId
    architecture: str
    n_layers: int
    n_embd: int
    n_slots: int
    context: int
    rows_max: int
    gateway: NodeId
    gateway_address: Address
    stages: tuple[StagePlan, ...]
    data_offset: int = 0


class PlanNotice(msgspec.Struct, frozen=True, tag="plan"):
    """A plan as signed bytes: msgpack of `Plan` and the gateway's signature over it."""

    plan: bytes
    signature: bytes


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The node is in; a plan follows when the ring is complete.

    `outside` is where the gateway sees the node's UDP port, host:port; empty if it
    does not. A node behind address translation cannot know.
    """

    name: str
    outside: str = ""


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """The node is not let in, or must leave; `problem` and `hint` are for its owner.

    `final`: asking again is of no use before a person has done something about it.
    """

    problem: str
    hint: str = ""
    final: bool = False


class Lend(msgspec.Struct, frozen=True, tag="lend"):
    """The gateway asks a node to let another one have a shard that it holds."""

    borrower: NodeId
    model: ModelId
    first: int
    last: int


class Fetching(msgspec.Struct, frozen=True, tag="fetching"):
    """The shard of `epoch` is on its way: bytes that are here, and in all."""

    epoch: Epoch
    here_bytes: int
    size_bytes: int


class Prefetch(msgspec.Struct, frozen=True, tag="prefetch"):
    """The gateway asks a node to have a shard on its disk for a ring to come.

    One at a time: a newer one replaces it. `number` names it in the answers, which
    are `Prefetching` now and then and one of the others at the end. The rest is as
    in a plan.
    """

    number: int
    model: ModelId
    n_layers: int
    data_offset: int
    first: int
    last: int
    shard: ShardId
    size_bytes: int
    sources: tuple[Source, ...] = ()


class Prefetching(msgspec.Struct, frozen=True, tag="prefetching"):
    """The shard that was asked for ahead is on its way: bytes that are here, and in all."""

    number: int
    here_bytes: int
    size_bytes: int


class Prefetched(msgspec.Struct, frozen=True, tag="prefetched"):
    """The shard is on the node's disk, and its hash is right."""

    number: int


class NotPrefetched(msgspec.Struct, frozen=True, tag="not_prefetched"):
    """The shard could not be had, or is not fetched any more; what came of it is kept."""

    number: int
    problem: str


class Echo(msgspec.Struct, frozen=True, tag="echo"):
    """The gateway times the way to a node, which answers at once; `padding` makes it long."""

    number: int
    padding: bytes = b""


class EchoBack(msgspec.Struct, frozen=True, tag="echo_back"):
    """The answer to the echo of this number."""

    number: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The stage of `epoch` is loaded, on `device`, and both its links stand.

    `bits` is what exact rows come to there; None: it was not found out.
    """

    epoch: Epoch
    shard_bytes: int
    kv_bytes: int
    load_s: float
    device: str = ""
    bits: Bits | None = None


class StageReport(msgspec.Struct, frozen=True, tag="report"):
    """Counters of a stage since it was loaded; sent about once a second.

    `steps` are the batches of one row a session, as decoding makes them, and
    `step_rows` their rows. Seconds
    are summed over steps: `engine_s` inside llama.cpp, `busy_s` inside the stage
    process as a whole, `call_s` from handing a batch to the stage process until
    its answer, `node_s` in the node's own handlers. `next_rtt_s` is the least of the
    last round trips to whom its windows go, 0 where none was timed yet, and
    `next_bytes` what was sent there since the link stands. `chunk_s` is spent on the
    `chunk_rows` that are no steps; `replay_rows` were sent again to this stage as a new
    one, and its sessions went on `replay_s` after the first of them came.
    """

    epoch: Epoch
    windows: int
    rows: int
    batches: int
    steps: int
    engine_s: float
    busy_s: float
    call_s: float
    node_s: float
    memory_bytes: int
    sessions: int
    isolation: tuple[str, ...] = ()
    step_rows: int = 0
    next_rtt_s: float = 0.0
    next_bytes: int = 0
    chunk_rows: int = 0
    chunk_s: float = 0.0
    replay_rows: int = 0
    replay_s: float = 0.0


class StageUnlinked(msgspec.Struct, frozen=True, tag="unlinked"):
    """A link of the stage broke, or could not be made; what it holds is sound."""

    epoch: Epoch
    problem: str


class StandBy(msgspec.Struct, frozen=True, tag="stand_by"):
    """The gateway asks a node to have stages of a plan loaded, in case theirs are lost.

    `notice` is the signed plan, `stages` are places in it; a newer one replaces it.
    """

    notice: PlanNotice
    stages: tuple[int, ...]


class StandsBy(msgspec.Struct, frozen=True, tag="stands_by"):
    """Layers [first, last) of the plan that was sent are loaded; told of each."""

    epoch: Epoch
    first: int
    last: int


class StageFailed(msgspec.Struct, frozen=True, tag="stage_failed"):
    """The stage cannot go on (its process died, its link broke)."""

    epoch: Epoch
    problem: str


class SessionFailed(msgspec.Struct, frozen=True, tag="session_failed"):
    """One session's frame was refused or its computation failed; others go on."""

    epoch: Epoch
    session: SessionId
    seq: int
    code: str
    problem: str


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """Either side says goodbye; no error."""

    reason: str


class Knock(msgspec.Struct, frozen=True, tag="knock"):
    """A node without a ticket asks in. `commitment` binds it to a nonce that it keeps back."""

    name: str
    commitment: bytes


class KnockAnswer(msgspec.Struct, frozen=True, tag="knock_answer"):
    """The gateway's nonce, which it chose without knowing the node's."""

    nonce: bytes


class Reveal(msgspec.Struct, frozen=True, tag="reveal"):
    """The node's nonce; with it both sides have the code."""

    nonce: bytes


class CodeConfirmed(msgspec.Struct, frozen=True, tag="confirmed"):
    """The node's owner says that both sides show the same code."""


class Approved(msgspec.Struct, frozen=True, tag="approved"):
    """Owner and operator agree: the node is enrolled, and may join as one that comes back.

    The rest is what a ticket tells of the gateway.
    """

    addresses: tuple[HostPort, ...] = ()
    udp_port: int = 0
    relay: str = ""


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """Heartbeat on the control link."""

    count: int


ControlMessage = (
    Join
    | PlanNotice
    | Welcome
    | Refusal
    | Lend
    | Prefetch
    | Prefetching
    | Prefetched
    | NotPrefetched
    | Echo
    | EchoBack
    | Measure
    | Measured
    | NotMeasured
    | TimePeer
    | PeerTimed
    | PeerNotTimed
    | MemoryHere
    | MemoryGone
    | Borrower
    | BorrowerGone
    | Lent
    | Fetching
    | Ready
    | StageReport
    | StageUnlinked
    | StandBy
    | StandsBy
    | StageFailed
    | SessionFailed
    | Leave
    | Knock
    | KnockAnswer
    | Reveal
    | CodeConfirmed
    | Approved
    | Beat
)


def plan_signed_part(plan: bytes) -> bytes:
    """The bytes a gateway signs for a plan notice."""
    return b"atoll-plan-1" + plan
