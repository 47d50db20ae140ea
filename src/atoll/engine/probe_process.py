"""The probe process: opens the engine's library and tells which GPUs it finds.

A driver takes memory and threads for as long as its process lives, and a
library that its owner named may be anything; so neither node nor gateway
opens it, but this short-lived child.
"""

from __future__ import annotations

import logging
import socket
import sys

import msgspec

from atoll.domain.errors import AtollError
from atoll.engine.channel import Broken, ChildChannel
from atoll.engine.devices import Device
from atoll.engine.library import list_devices, load_library
from atoll.engine.process import confine


class Probe(msgspec.Struct, frozen=True, tag="probe"):
    """The first and only message: what is there?"""


class Probed(msgspec.Struct, frozen=True, tag="probed"):
    """The answer to `Probe`: the engine's build, and the GPUs in the library's order."""

    build: str
    devices: tuple[Device, ...]


def main(argv: list[str]) -> None:
    """Run as `python -m atoll.engine.probe_process FD`."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    confine()
    connection = socket.socket(fileno=int(argv[0]))
    channel = ChildChannel[Probe](connection, msgspec.msgpack.Decoder(Probe))
    try:
        while channel.receive() is not None:
            library = load_library()
            channel.send(Probed(library.build, list_devices(library)))
    except AtollError as error:
        channel.send(Broken(error.problem, error.hint))
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main(sys.argv[1:])
