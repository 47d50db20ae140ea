"""`atoll relay`: it lets in its members, and ends when asked."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import pytest
from tests.cli.conftest import Run, background, wait_until

from atoll.cli.relay import certificate, membership
from atoll.domain.address import Address
from atoll.domain.errors import BadRequest, LinkFault
from atoll.members.register import REGISTER_FILE, Register
from atoll.net import iroh_patch
from atoll.net.identity import Identity
from atoll.net.iroh_endpoint import open_endpoint
from atoll.net.link import LinkSettings
from atoll.net.listener import Takers
from atoll.net.ticket import relay_token


def test_half_a_certificate(run: Run, tmp_path: Path) -> None:
    refused = run("relay", "--tls-cert", str(tmp_path / "c.pem"))
    assert refused.code == 2
    assert "go together" in refused.err
    assert certificate(None, None) is None
    with pytest.raises(BadRequest, match="cannot be used"):
        certificate(tmp_path / "c.pem", tmp_path / "k.pem")


@pytest.mark.network
@pytest.mark.skipif(not iroh_patch.is_available(), reason="no wheel of iroh for this system")
async def test_members_meet_there(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "relay.log"
    member, stranger = Identity.generate(), Identity.generate()
    register = Register(home / REGISTER_FILE)
    _, secret = register.invite("anna", lifetime_s=60)
    register.admit(member.node_id, "pc", secret)
    with background(["relay", "--port", "0", "--verbose"], home, log) as process:
        wait_until(lambda: "relaying at" in log.read_text(), "the relay", log)
        found = re.search(r"http://\S+", log.read_text())
        assert found is not None
        url = found[0]
        settings = LinkSettings(handshake_s=20)
        async with open_endpoint(member, host="127.0.0.1", relays=[url]) as one:
            await one.wait_relayed()
            gateway = Identity.load_or_create(home / "gateway.pem")
            async with open_endpoint(gateway, host="127.0.0.1", relays=[url]) as other:
                await other.wait_relayed()
                taken: list[object] = []
                with other.taking(Takers(lambda _p, _k: None, on_control=taken.append)):
                    link = await one.dial_control(
                        Address(relay=url), expected=gateway.node_id, settings=settings
                    )
                    assert link.peer == gateway.node_id
        brief = LinkSettings(handshake_s=0.5)
        async with open_endpoint(stranger, host="127.0.0.1", relays=[url]) as outside:
            with pytest.raises(LinkFault):
                await outside.dial_control(
                    Address(relay=url), expected=member.node_id, settings=brief
                )
        invitation, ticket = register.invite("ben", lifetime_s=60)
        token = relay_token(ticket)
        async with open_endpoint(
            stranger, host="127.0.0.1", relays=[url], relay_token=token
        ) as guest:
            async with asyncio.timeout(20):
                await guest.wait_relayed()
        register.withdraw(frozenset({invitation.id}))
        async with open_endpoint(
            stranger, host="127.0.0.1", relays=[url], relay_token=token
        ) as late:
            async with asyncio.timeout(20):
                while "its ticket is not good" not in log.read_text():
                    await asyncio.sleep(0.05)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await late.wait_relayed()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert "stopped by SIGTERM" in log.read_text()


def test_members_are_whom_the_register_names_now(tmp_path: Path) -> None:
    gateway, node = Identity.generate().node_id, Identity.generate().node_id
    register = Register(tmp_path / REGISTER_FILE)
    is_member = membership(gateway, Register(tmp_path / REGISTER_FILE))
    assert is_member(gateway)
    assert not is_member(node)
    _, secret = register.invite("anna", lifetime_s=60)
    assert not is_member(node)
    register.admit(node, "pc", secret)
    assert is_member(node)
    register.revoke("pc")
    assert not is_member(node)
    assert is_member(gateway)
