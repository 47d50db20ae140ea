"""A process that dials a data link and keeps it, for tests that kill or stop it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

from atoll.domain.address import Address, HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.domain.wire import DataMessage
from atoll.net.identity import Identity
from atoll.net.iroh_endpoint import open_endpoint
from atoll.net.link import DataLimits, LinkSettings, UnusableFrame
from atoll.net.tls import dial_data


class Quiet:
    """Takes everything and says nothing."""

    def on_frame(self, message: DataMessage, payload: bytes) -> None:
        pass

    def on_unusable(self, fault: UnusableFrame) -> None:
        raise fault

    def on_batch_end(self) -> None:
        pass

    def on_closed(self, reason: LinkFault | None) -> None:
        pass


SETTINGS = LinkSettings(heartbeat_s=0.1, missed_max=1000)


async def keep(key: str, port: int, way: str) -> None:
    identity, expected = Identity.generate(), NodeId(key)
    async with contextlib.AsyncExitStack() as stack:
        if way == "quic":
            endpoint = await stack.enter_async_context(open_endpoint(identity, host="127.0.0.1"))
            address = Address(quic=(HostPort("127.0.0.1", port),))
            link = await endpoint.dial_data(address, expected=expected, settings=SETTINGS)
        else:
            link = await dial_data(
                "127.0.0.1", port, expected=expected, identity=identity, settings=SETTINGS
            )
        link.start(Quiet(), DataLimits(n_embd=4, rows_max=8))
        await link.wait_closed()


if __name__ == "__main__":
    told = json.loads(sys.stdin.read())
    asyncio.run(asyncio.wait_for(keep(told["key"], told["port"], told["way"]), 60))
