"""The draft process: the gateway's child that guesses next tokens with a small model.

Like a stage process it has no network and answers on one socket pair.
"""

from __future__ import annotations

import logging
import socket
import sys
import time

import msgspec

from atoll.domain.errors import AtollError, EngineFault
from atoll.engine.channel import Broken, ChildChannel
from atoll.engine.draft import DraftEngine
from atoll.engine.draft_messages import (
    DraftDone,
    DraftLoaded,
    DraftMessage,
    DraftOptions,
    RunDraft,
)
from atoll.engine.process import confine


def serve(channel: ChildChannel[DraftMessage], isolation: tuple[str, ...]) -> None:
    """Answer requests until the parent is gone."""
    engine: DraftEngine | None = None
    while (received := channel.receive()) is not None:
        message, _ = received
        start = time.perf_counter()
        match message:
            case DraftOptions():
                engine = DraftEngine(message)
                loaded = DraftLoaded(
                    build=engine.build,
                    n_vocab=engine.n_vocab,
                    load_s=time.perf_counter() - start,
                    isolation=isolation,
                    device=engine.device,
                )
                channel.send(loaded)
            case RunDraft() if engine is not None:
                drafted = engine.run(message.wanted)
                took_s = time.perf_counter() - start
                channel.send(DraftDone(message.batch, tuple(drafted), took_s))
            case _:
                raise EngineFault("the draft model was asked to work before it was loaded")


def main(argv: list[str]) -> None:
    """Run as `python -m atoll.engine.draft_process FD`."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    isolation = confine()
    connection = socket.socket(fileno=int(argv[0]))
    channel = ChildChannel[DraftMessage](connection, msgspec.msgpack.Decoder(DraftMessage))
    try:
        serve(channel, isolation)
    except AtollError as error:
        channel.send(Broken(error.problem, error.hint))
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main(sys.argv[1:])
