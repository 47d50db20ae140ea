"""Finding the gateway at one of its addresses, and parting from it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.support.hand_gateway import Heard

from atoll.domain.address import Address, HostPort
from atoll.domain.control import Leave, Refusal
from atoll.domain.errors import LinkFault
from atoll.net import iroh_patch
from atoll.net.identity import Identity
from atoll.net.link import ControlLink, LinkSettings, WrongPeer
from atoll.net.listener import Takers, listen
from atoll.net.transport import Way, open_transport
from atoll.node import dial
from atoll.node.dial import dial_gateway, gateway_place, part_for_good, way_for
from atoll.node.membership import Membership

pytestmark = pytest.mark.network

CLOSED = HostPort("127.0.0.1", 1)
NODE = Identity.generate()


@asynccontextmanager
async def open_gateway(
    identity: Identity,
) -> AsyncIterator[tuple[HostPort, asyncio.Queue[ControlLink]]]:
    controls: asyncio.Queue[ControlLink] = asyncio.Queue()
    async with listen(
        "127.0.0.1",
        0,
        identity=identity,
        takers=Takers(lambda _peer, _kind: None, on_control=controls.put_nowait),
    ) as listener:
        yield HostPort("127.0.0.1", listener.port), controls


async def test_addresses_are_tried_until_the_right_key_answers() -> None:
    gateway, stranger = Identity.generate(), Identity.generate()
    async with open_gateway(stranger) as (wrong, met), open_gateway(gateway) as (right, _):
        membership = Membership(gateway.node_id, (CLOSED, wrong, right))
        async with open_transport(NODE, way="tls") as transport:
            link = await dial_gateway(membership, transport)
        assert (link.peer, link.local_host) == (gateway.node_id, "127.0.0.1")
        link.close()
        await link.wait_closed()
        assert met.empty()


async def test_the_last_reason_is_told() -> None:
    stranger = Identity.generate()
    async with open_gateway(stranger) as (wrong, _):
        gateway = Identity.generate().node_id
        with pytest.raises(WrongPeer):
            await _dial(Membership(gateway, (CLOSED, wrong)))
        with pytest.raises(LinkFault, match="nobody listens"):
            await _dial(Membership(gateway, (wrong, CLOSED)))
        with pytest.raises(LinkFault, match="by no address"):
            await _dial(Membership(gateway, ()))


OUTSIDE = "127.0.0.2"


@pytest.fixture
def behind_a_router(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two addresses of this machine, one counts as public."""
    if sys.platform != "linux" or not iroh_patch.is_available():
        pytest.skip("needs 127.0.0.2, and QUIC")
    monkeypatch.setattr(dial, "is_public", lambda host: host == OUTSIDE)
    monkeypatch.setattr(dial, "OUTSIDE_TRIAL_S", 1.0)


@pytest.mark.usefixtures("behind_a_router")
@pytest.mark.parametrize("answers", [True, False])
async def test_behind_a_router_the_gateway_is_to_see_our_udp_port(
    answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not answers:
        monkeypatch.setattr(dial, "OUTSIDE_TRIAL_S", 0.3)
    gateway = Identity.generate()
    controls: asyncio.Queue[ControlLink] = asyncio.Queue()
    way: Way = "auto" if answers else "tls"
    async with (
        asyncio.timeout(20),
        open_transport(gateway, way=way, host=OUTSIDE) as there,
        there.listen(
            OUTSIDE, 0, Takers(lambda *_: None, on_control=controls.put_nowait)
        ) as listener,
        open_transport(NODE, host="127.0.0.1") as here,
    ):
        place = HostPort(OUTSIDE, listener.port)
        udp_port = there.udp_port if answers else listener.port
        membership = Membership(gateway.node_id, (place,), udp_port=udp_port)
        link = await dial_gateway(membership, here)
        # The port was seen, or the link that stands is as good as it gets.
        assert link.carrier == ("quic" if answers else "tls")
        taken = [await controls.get() for _ in range(2 if answers else 1)]
        for end in (link, *taken):
            end.close()
            await end.wait_closed()


async def test_the_gateway_is_dialled_where_it_answers() -> None:
    gateway = Identity.generate()
    at_home = HostPort("192.168.1.2", 8643)
    said = Address(at_home, (at_home,), "http://relay.example:1")
    async with open_gateway(gateway) as (place, controls):
        async with open_transport(NODE, way="tls") as transport:
            link = await dial_gateway(Membership(gateway.node_id, (place,)), transport)
        found = gateway_place(said, link, 7000)
        assert found == Address(place, (HostPort("127.0.0.1", 7000), at_home), said.relay)
        assert gateway_place(said, link, 0) == Address(place, (at_home,), said.relay)
        # It knows the address at which we see it, and then which port is for windows.
        other = Address(HostPort(place.host, 1))
        assert gateway_place(other, link, 7000) == other
        for end in (link, await controls.get()):
            end.close()
            await end.wait_closed()


@pytest.mark.skipif(not iroh_patch.is_available(), reason="no wheel of iroh for this system")
async def test_over_quic_the_gateway_is_dialled_where_it_answers() -> None:
    gateway = Identity.generate()
    controls: asyncio.Queue[ControlLink] = asyncio.Queue()
    async with (
        asyncio.timeout(10),
        open_transport(gateway, way="quic", host="127.0.0.1") as there,
        there.listen("127.0.0.1", 0, Takers(lambda *_: None, on_control=controls.put_nowait)),
        open_transport(NODE, way="quic", host="127.0.0.1") as here,
    ):
        place = HostPort("127.0.0.1", there.udp_port)
        member = Membership(gateway.node_id, (place,), udp_port=place.port)
        link = await dial_gateway(member, here)
        at_home = HostPort("192.168.1.2", 8643)
        found = gateway_place(Address(quic=(at_home,)), link, place.port)
        # Of the loopback's two addresses QUIC takes whichever answers first.
        answered = HostPort(link.peer_host, link.peer_port)
        assert found == Address(quic=(answered, at_home))
        for end in (link, await controls.get()):
            end.close()
            await end.wait_closed()


@pytest.mark.skipif(not iroh_patch.is_available(), reason="no wheel of iroh for this system")
async def test_a_newcomer_is_told_what_its_relay_asks() -> None:
    gateway = Identity.generate().node_id
    brief = LinkSettings(handshake_s=0.3)
    async with open_transport(NODE, host="127.0.0.1", settings=brief) as transport:
        for secret in ("s" * 43, ""):
            membership = Membership(gateway, (CLOSED,), secret, relay="http://127.0.0.1:1")
            with pytest.raises(LinkFault, match="did not answer") as caught:
                await dial_gateway(membership, transport)
            assert ("only while the ticket is good" in caught.value.hint) == bool(secret)


async def _dial(membership: Membership) -> None:
    async with open_transport(NODE, way="tls") as transport:
        await dial_gateway(membership, transport)


def test_to_a_gateway_on_this_machine_only_tcp_is_opened() -> None:
    key = NODE.node_id
    here, away = HostPort("127.0.0.1", 1), HostPort("10.0.0.1", 1)
    assert way_for(Membership(key, (here,))) == "tls"
    assert way_for(Membership(key, (here,)), "quic") == "quic"
    assert way_for(Membership(key, (here,), relay="http://127.0.0.1:1")) == "auto"
    assert way_for(Membership(key, (here, away))) == "auto"


@pytest.mark.parametrize("answer", [Leave("forgotten"), Refusal("no", "ask")])
async def test_parting_waits_for_the_answer(answer: Leave | Refusal) -> None:
    gateway = Identity.generate()
    async with open_gateway(gateway) as (address, controls), asyncio.TaskGroup() as tasks:
        parting = tasks.create_task(_outcome(Membership(gateway.node_id, (address,))), name="part")
        link = await controls.get()
        heard = Heard()
        link.start(heard)
        await heard.next_message(Leave)
        link.send(answer)
        link.close()
        fault = await parting
    assert (fault is None) == isinstance(answer, Leave)


async def _outcome(membership: Membership) -> LinkFault | None:
    try:
        await part_for_good(membership, NODE)
    except LinkFault as fault:
        return fault
    return None
