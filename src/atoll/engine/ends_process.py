"""The ends process: the gateway's child that computes both ends of the ring.

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
from atoll.engine.ends import EndsEngine
from atoll.engine.ends_messages import (
    Close,
    EndsLoaded,
    EndsMessage,
    EndsOptions,
    ItemsDone,
    Open,
    RunItems,
)
from atoll.engine.parcel_messages import PutIn, TakeOut
from atoll.engine.process import confine


def serve(channel: ChildChannel[EndsMessage], isolation: tuple[str, ...]) -> None:
    """Answer requests until the parent is gone."""
    engine: EndsEngine | None = None
    while (received := channel.receive()) is not None:
        message, payload = received
        start = time.perf_counter()
        match message:
            case EndsOptions():
                engine = EndsEngine(message)
                loaded = EndsLoaded(
                    build=engine.build,
                    n_embd=engine.n_embd,
                    n_vocab=engine.n_vocab,
                    load_s=time.perf_counter() - start,
                    isolation=isolation,
                    device=engine.device,
                )
                channel.send(loaded)
            case RunItems() if engine is not None:
                results, outputs, engine_s = engine.run(message.items, payload)
                sampling_s = time.perf_counter() - start - engine_s
                done = ItemsDone(message.batch, tuple(results), engine_s, sampling_s)
                channel.send(done, *outputs)
            case Open() if engine is not None:
                engine.open(message.slot, message.request)
            case Close() if engine is not None:
                engine.close(message.slot, keep=message.keep)
            case TakeOut() | PutIn() if engine is not None:
                channel.send(*engine.parcels.obey(message, payload))
            case _:
                raise EngineFault("the ends were asked to work before they were loaded")


def main(argv: list[str]) -> None:
    """Run as `python -m atoll.engine.ends_process FD`."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    isolation = confine()
    connection = socket.socket(fileno=int(argv[0]))
    channel = ChildChannel[EndsMessage](connection, msgspec.msgpack.Decoder(EndsMessage))
    try:
        serve(channel, isolation)
    except AtollError as error:
        channel.send(Broken(error.problem, error.hint))
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main(sys.argv[1:])
