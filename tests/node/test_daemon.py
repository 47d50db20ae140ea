"""A node's dealings with its gateway: joining, plans, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from tests.support.children import is_running, new_children
from tests.support.hand_gateway import (
    FIRST,
    LAST,
    SECRET,
    HandGateway,
    Heard,
    at,
    open_hand_gateway,
    row_at,
)
from tests.support.rings import wait_until

from atoll import __version__
from atoll.domain.address import HostPort
from atoll.domain.bulk import AskBlock, AskOutline, Block, NotHere, Outline, ShardRange
from atoll.domain.control import (
    Leave,
    Lend,
    PlanNotice,
    Ready,
    Refusal,
    StageFailed,
    StageReport,
    StageUnlinked,
)
from atoll.domain.errors import LinkFault, NotLetIn, ProtocolFault
from atoll.domain.ids import Epoch, ModelId, NodeId, ShardId
from atoll.domain.timing import BURST_BYTES_MAX, PeerNotTimed, PeerTimed, TimePeer
from atoll.domain.wire import Grant, Window
from atoll.net.identity import Identity
from atoll.net.link import BulkLink, DataLimits, LinkSettings, NotWelcome, TimingLink
from atoll.net.tls import dial_bulk, dial_control, dial_timing
from atoll.node import hearing
from atoll.node.daemon import NodeDaemon
from atoll.node.membership import Membership
from atoll.node.options import NodeOptions
from atoll.node.way_timer import WayTimer
from atoll.store.layout import FoundModel, Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]

_L = TypeVar("_L")


def a_membership(port: int, gateway: NodeId) -> Membership:
    return Membership(gateway, (HostPort("127.0.0.1", port),), SECRET)


async def end_of(hand: HandGateway) -> BaseException | None:
    """What ended the node; None: it ended well."""
    await asyncio.wait([hand.running], timeout=6)
    assert hand.running.done()
    return hand.running.exception()


async def test_it_introduces_itself_with_its_secret(hand: HandGateway) -> None:
    assert hand.joined.secret == SECRET
    assert hand.joined.version == __version__
    assert hand.joined.name == "node"
    assert hand.joined.memory_free_bytes > 0
    assert SECRET not in "".join(hand.said)


async def test_it_lends_its_shard_to_whom_the_gateway_names(hand: HandGateway) -> None:
    friend, stranger = Identity.generate(), Identity.generate()
    await hand.form()

    async def dial(identity: Identity) -> BulkLink:
        return await dial_bulk(
            "127.0.0.1", hand.data_port, expected=hand.node.node_id, identity=identity
        )

    with pytest.raises(NotWelcome, match="did not ask this node to lend anything"):
        await dial(friend)
    shard = ShardRange(hand.model.model, FIRST, LAST)
    hand.control.send(Lend(friend.node_id, shard.model, shard.first, shard.last))
    link = await _until_welcome(lambda: dial(friend))
    with pytest.raises(NotWelcome):
        await dial(stranger)
    heard = Heard()
    link.start(heard)
    link.send(AskOutline(shard))
    outline = await heard.next_message(Outline)
    assert outline.size_bytes > 0
    link.send(AskBlock(shard, 0, 4))
    assert await heard.next_message(Block) == Block(0, b"GGUF")
    link.send(AskOutline(ShardRange(shard.model, FIRST, LAST - 1)))
    assert "did not ask" in (await heard.next_message(NotHere)).problem
    link.close()
    await link.wait_closed()


async def test_it_times_the_way_to_whom_the_gateway_names(hand: HandGateway) -> None:
    assert hand.joined.times_peers
    friend = Identity.generate()

    async def dial() -> TimingLink:
        return await dial_timing(
            "127.0.0.1", hand.data_port, expected=hand.node.node_id, identity=friend
        )

    with pytest.raises(NotWelcome, match="did not name you"):
        await dial()
    hand.control.send(TimePeer(friend.node_id, at(1), False))
    link = await _until_welcome(dial)
    seen = await WayTimer(link, BURST_BYTES_MAX).run(leads=True)
    assert seen.peer == hand.node.node_id
    told = await hand.heard.next_message(PeerTimed)
    assert told.peer == friend.node_id
    link.close()
    await link.wait_closed()
    # The other way round there is nobody.
    hand.control.send(TimePeer(friend.node_id, at(1), True))
    not_timed = await hand.heard.next_message(PeerNotTimed)
    assert not_timed == PeerNotTimed(friend.node_id, "nobody listens at 127.0.0.1:1")


async def test_an_order_to_time_nobody_is_refused(hand: HandGateway) -> None:
    hand.control.send(TimePeer(NodeId("x"), at(1), True))
    assert isinstance(await end_of(hand), LinkFault)
    assert "a peer without a key" in (await hand.heard.next_message(Refusal)).problem


async def _until_welcome(dial: Callable[[], Awaitable[_L]]) -> _L:
    """The gateway's word is on its way while we dial."""
    async with asyncio.timeout(6):
        while True:
            try:
                return await dial()
            except NotWelcome:
                await asyncio.sleep(0.02)


async def test_it_serves_reports_and_leaves(hand: HandGateway) -> None:
    ready = await hand.form()
    assert ready.epoch == hand.epoch
    assert ready.shard_bytes > 0
    assert ready.kv_bytes > 0
    await hand.computed(1, 0, 0, 0)
    report = await hand.heard.next_message(StageReport)
    while report.windows == 0:
        report = await hand.heard.next_message(StageReport)
    assert (report.windows, report.rows, report.batches, report.steps) == (1, 1, 1, 1)
    assert report.sessions == 1
    assert 0 < report.engine_s <= report.call_s
    assert report.memory_bytes > 0
    children = new_children()
    hand.control.send(Leave("time to go"))
    assert await end_of(hand) is None
    assert "time to go" in hand.said[-1]
    assert not [child for child in children if is_running(child.pid)]


async def test_a_prompts_window_is_no_step(hand: HandGateway) -> None:
    """Times are of steps: a prompt's would swamp them."""
    await hand.form()
    hand.up.send(hand.window(1, 0, 0, 0, rows=2), row_at(0) + row_at(1))
    await hand.down_heard.next(Window)
    hand.down.send(Grant(1))
    await hand.computed(1, 0, 1, 2)
    report = await hand.heard.next_message(StageReport)
    while report.windows < 2:
        report = await hand.heard.next_message(StageReport)
    assert (report.windows, report.rows, report.batches, report.steps) == (2, 3, 2, 1)


@pytest.mark.parametrize("final", [False, True])
async def test_a_refusal_is_handed_to_the_owner(hand: HandGateway, final: bool) -> None:
    hand.control.send(Refusal("its invitation has expired", "ask for a new ticket", final))
    error = await end_of(hand)
    assert isinstance(error, LinkFault)
    # A service is started again after the one, and not after the other.
    assert (isinstance(error, NotLetIn), error.exit_code) == (final, 9 if final else 6)
    assert "its invitation has expired" in error.problem
    assert error.hint == "ask for a new ticket"


async def test_a_gateway_that_goes_ends_the_node(formed: HandGateway) -> None:
    formed.control.close()
    error = await end_of(formed)
    assert isinstance(error, LinkFault)
    assert "the gateway is gone" in error.problem
    assert error.hint == "once it is back: atoll join"


async def test_a_gateway_that_never_answers(
    model: FoundModel, node_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "JOIN_S", 0.2)
    monkeypatch.setattr(HandGateway, "welcome", say_nothing)
    async with open_hand_gateway(model, node_store) as hand:
        error = await end_of(hand)
        assert isinstance(error, LinkFault)
        assert "did not answer within 0.2 s" in error.problem


async def say_nothing(hand: HandGateway) -> None:
    hand.control = await hand.controls.get()
    hand.heard = Heard()
    hand.control.start(hand.heard)


Forge = Callable[[HandGateway], PlanNotice]


def unsigned(hand: HandGateway) -> PlanNotice:
    return PlanNotice(msgspec.msgpack.encode(hand.plan()), b"")


def signed_by_another(hand: HandGateway) -> PlanNotice:
    plan = msgspec.msgpack.encode(hand.plan())
    return PlanNotice(plan, Identity.generate().sign(b"atoll-plan-1" + plan))


def changed_after_signing(hand: HandGateway) -> PlanNotice:
    plan = msgspec.msgpack.encode(hand.plan())
    other = msgspec.msgpack.encode(hand.plan(epoch=Epoch(9, 9)))
    return PlanNotice(other, hand.identity.sign(b"atoll-plan-1" + plan))


def signed_for_another_purpose(hand: HandGateway) -> PlanNotice:
    plan = msgspec.msgpack.encode(hand.plan())
    return PlanNotice(plan, hand.identity.sign(b"atoll-data-1" + plan))


def unreadable(hand: HandGateway) -> PlanNotice:
    return PlanNotice(b"\xc1", hand.identity.sign(b"atoll-plan-1\xc1"))


def of_another_gateway(hand: HandGateway) -> PlanNotice:
    plan = msgspec.msgpack.encode(hand.plan(gateway=NodeId("a" * 64)))
    return PlanNotice(plan, hand.identity.sign(b"atoll-plan-1" + plan))


@pytest.mark.parametrize(
    "forge",
    [
        unsigned,
        signed_by_another,
        changed_after_signing,
        signed_for_another_purpose,
        unreadable,
        of_another_gateway,
    ],
)
async def test_a_plan_that_is_not_the_gateways_is_refused(hand: HandGateway, forge: Forge) -> None:
    hand.control.send(forge(hand))
    error = await end_of(hand)
    assert isinstance(error, ProtocolFault)
    refusal = await hand.heard.next_message(Refusal)
    assert refusal.problem == error.problem


@pytest.mark.parametrize("epoch", [Epoch(1, 1), Epoch(1, 0), Epoch(0, 9)])
async def test_a_plan_of_an_old_epoch_is_refused(formed: HandGateway, epoch: Epoch) -> None:
    formed.announce(formed.plan(epoch=epoch))
    error = await end_of(formed)
    assert isinstance(error, ProtocolFault)
    assert "is not above" in error.problem


async def test_a_message_that_only_nodes_send_is_refused(hand: HandGateway) -> None:
    hand.control.send(StageFailed(Epoch(1, 1), "x"))
    assert isinstance(await end_of(hand), ProtocolFault)
    assert "the gateway sent a StageFailed" in (await hand.heard.next_message(Refusal)).problem


async def test_a_plan_without_a_part_for_this_node_fails(hand: HandGateway) -> None:
    plan = hand.plan()
    stranger = msgspec.structs.replace(plan.stages[0], node=Identity.generate().node_id)
    hand.announce(hand.plan(stages=(stranger,)))
    failed = await hand.heard.next_message(StageFailed)
    assert "0 stages, not one" in failed.problem
    assert not hand.running.done()


@pytest.mark.parametrize("changes", [{"rows_max": 1 << 20}, {"n_slots": 0}, {"n_embd": 0}])
async def test_a_plan_with_impossible_limits_fails(
    hand: HandGateway, changes: dict[str, int]
) -> None:
    hand.announce(hand.plan(**changes))
    failed = await hand.heard.next_message(StageFailed)
    assert "limits do not fit" in failed.problem
    assert not hand.running.done()


async def test_a_model_that_is_not_here(
    random_model: Callable[..., Path], model: FoundModel, tmp_path: Path
) -> None:
    other = random_model("llama", n_layers=6, seed=5)
    async with open_hand_gateway(model, Store(tmp_path), path=str(other)) as hand:
        hand.announce(hand.plan())
        failed = await hand.heard.next_message(StageFailed)
        assert "the model here is" in failed.problem
        assert "join with the same model file as the gateway" in hand.said[-1]
        hand.epoch = Epoch(1, 2)
        hand.announce(hand.plan(model=ModelId("f" * 64)))
        failed = await hand.heard.next_message(StageFailed)
        assert failed.epoch == hand.epoch


async def test_a_shard_with_another_hash(hand: HandGateway) -> None:
    plan = hand.plan()
    wrong = msgspec.structs.replace(plan.stages[0], shard=ShardId("0" * 64))
    hand.announce(hand.plan(stages=(wrong,)))
    failed = await hand.heard.next_message(StageFailed)
    assert "but the plan says 000000000000" in failed.problem
    assert "use the same version of Atoll everywhere" in hand.said[-1]


async def test_a_store_that_cannot_be_written(model: FoundModel, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (store.shards_dir / model.model).write_text("in the way")
    async with open_hand_gateway(model, store) as hand:
        hand.announce(hand.plan())
        failed = await hand.heard.next_message(StageFailed)
        assert "cannot cut the shard" in failed.problem
        assert str(tmp_path) not in failed.problem
        assert f"make room in {store.home}" in hand.said[-1]


async def test_only_the_neighbour_of_the_plan_may_link(formed: HandGateway) -> None:
    with pytest.raises(NotWelcome, match="the plan names another neighbour"):
        await formed.dial(Identity.generate())
    with pytest.raises(NotWelcome, match="control"):
        await dial_control(
            "127.0.0.1",
            formed.data_port,
            expected=formed.node.node_id,
            identity=formed.identity,
        )
    await formed.computed(1, 0, 0, 0)


async def test_nobody_may_link_before_there_is_a_plan(hand: HandGateway) -> None:
    with pytest.raises(NotWelcome, match="another neighbour"):
        await hand.dial()


async def test_a_new_plan_is_heeded_while_the_old_one_waits_for_neighbours(
    hand: HandGateway,
) -> None:
    """The old plan's downstream never answers; nobody waits for it."""
    hand.announce(hand.plan(gateway_address=at(1)))
    await wait_until(new_children, what="the stage process")
    hand.epoch = Epoch(1, 2)
    async with asyncio.timeout(6):
        ready = await hand.form()
    assert ready.epoch == Epoch(1, 2)
    await hand.computed(1, 0, 0, 0)
    assert len(new_children()) == 1


async def test_a_goodbye_is_heeded_while_a_plan_waits_for_neighbours(hand: HandGateway) -> None:
    hand.announce(hand.plan(gateway_address=at(1)))
    hand.control.send(Leave("enough"))
    assert await end_of(hand) is None


async def test_a_second_plan_forgets_the_sessions_of_the_first(formed: HandGateway) -> None:
    before = await formed.computed(1, 0, 0, 0)
    first_up, first_down = formed.up_heard, formed.down_heard
    formed.epoch = Epoch(2, 1)
    ready = await formed.form()
    assert ready.epoch == Epoch(2, 1)
    await first_up.wait_ended()
    await first_down.wait_ended()
    formed.up.send(msgspec.structs.replace(formed.window(1, 0, 1, 1)), bytes(4 * 64))
    assert (await formed.refusal()).code == "seq"
    assert await formed.computed(2, 0, 0, 0) == before


async def test_an_upstream_that_dialled_too_early_may_dial_again(hand: HandGateway) -> None:
    """It dialled for an older plan: its link ends before it said anything."""
    await hand.form()
    hand.up.close()
    await hand.up.wait_closed()
    hand.up = await hand.dial()
    hand.up_heard = Heard()
    hand.up.start(hand.up_heard, DataLimits(64, 32))
    hand.up.send(hand.window(1, 0, 0, 0), bytes(4 * 64))
    assert (await hand.down_heard.next(Window))[0].session == 1


async def test_an_upstream_that_goes_leaves_the_stage_sound(formed: HandGateway) -> None:
    await formed.computed(1, 0, 0, 0)
    stage = new_children()
    formed.up.close()
    unlinked = await formed.heard.next_message(StageUnlinked)
    assert "the upstream link is gone" in unlinked.problem
    assert [c for c in stage if is_running(c.pid)]
    await formed.down_heard.wait_ended()
    # It is still a member, and serves the next plan.
    formed.epoch = Epoch(1, 2)
    await formed.form()
    await formed.computed(1, 0, 0, 0)


async def test_an_engine_that_is_not_found_there(
    model: FoundModel, node_store: Store, tmp_path: Path
) -> None:
    """Nobody listens at the gateway's address."""
    node = NodeDaemon(
        Identity.generate(),
        node_store,
        NodeOptions("n", str(model.path), 1, 1),
        tell=lambda _line: None,
        settings=LinkSettings(handshake_s=1.0),
    )
    with pytest.raises(LinkFault, match="nobody listens at"):
        await node.run(a_membership(1, Identity.generate().node_id))


async def test_a_gateway_with_another_key_gets_no_secret(hand: HandGateway) -> None:
    node = NodeDaemon(
        Identity.generate(),
        Store(hand.model.path.parent / "unused"),
        NodeOptions("n", str(hand.model.path), 1, 1),
        tell=lambda _line: None,
    )
    wrong = a_membership(hand.listener.port, Identity.generate().node_id)
    with pytest.raises(LinkFault, match="holds key"):
        await node.run(wrong)
    assert hand.controls.empty()


async def test_two_plans_at_once_end_in_the_newer(hand: HandGateway) -> None:
    for counter in range(1, 6):
        hand.epoch = Epoch(1, counter)
        hand.announce(hand.plan())
    await hand.link_up()
    ready = await hand.heard.next_message(Ready)
    assert ready.epoch == Epoch(1, 5)
