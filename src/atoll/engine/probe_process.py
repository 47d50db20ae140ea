"""The probe process: opens the engine's library and tells which GPUs it finds.

A driver takes memory and threads for as long as its process lives, and a
library that its owner named may be anything; so neither node nor gateway
opens it, but this short-lived child.
"""

from __future__ import annotations

import sys

import msgspec

from atoll.engine.channel import ChildChannel
from atoll.engine.devices import Device
from atoll.engine.library import list_devices, load_library
from atoll.engine.serving import run_engine


class Probe(msgspec.Struct, frozen=True, tag="probe"):
    """The first and only message: what is there?"""


class Probed(msgspec.Struct, frozen=True, tag="probed"):
    """The answer to `Probe`: the engine's build, and the GPUs in the library's order."""

    build: str
    devices: tuple[Device, ...]


def serve(channel: ChildChannel[Probe], isolation: tuple[str, ...]) -> None:
    """Answer until the parent is gone."""
    del isolation  # nobody asks
    while channel.receive() is not None:
        library = load_library()
        channel.send(Probed(library.build, list_devices(library)))


def main(argv: list[str]) -> None:
    """Run as `python -m atoll.engine.probe_process FD`."""
    run_engine(argv, Probe, serve)


if __name__ == "__main__":
    main(sys.argv[1:])
