"""A process that can be reached through a relay alone: it has a network of its own.

Its input names the relay's port and whom to dial there. It gives its parent a
listening socket at that port in its network, dials, and sends back every frame.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

from bench.slow_net import hand_out, leave_network

from atoll.domain.address import Address
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.identity import Identity
from atoll.net.iroh_endpoint import open_endpoint
from atoll.net.link import DataLimits, DataLink, LinkSettings, UnusableFrame


class Echo:
    def __init__(self, link: DataLink) -> None:
        self.link = link

    def on_frame(self, message: Any, payload: bytes) -> None:
        self.link.send(message, payload)

    def on_unusable(self, fault: UnusableFrame) -> None:
        raise fault

    def on_batch_end(self) -> None:
        pass

    def on_closed(self, reason: LinkFault | None) -> None:
        pass


async def echo(port: int, expected: NodeId, seed: str) -> None:
    url = f"http://127.0.0.1:{port}/"
    identity = Identity.from_key(key_of(seed))
    async with open_endpoint(identity, host="127.0.0.1", relays=[url]) as endpoint:
        link = await endpoint.dial_data(
            Address(relay=url), expected=expected, settings=LinkSettings(handshake_s=20)
        )
        link.start(Echo(link), DataLimits(n_embd=4096, rows_max=64))
        await link.wait_closed()


def key_of(seed: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))


if __name__ == "__main__":
    leave_network()
    told = json.loads(sys.stdin.readline())
    hand_out(told["channel"], socket.create_server(("127.0.0.1", told["port"])))
    asyncio.run(asyncio.wait_for(echo(told["port"], told["expected"], told["seed"]), 60))
