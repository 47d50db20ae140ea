"""The ends process: the gateway's child that computes both ends of the ring.

Like a stage process it has no network and answers on one socket pair.
"""

from __future__ import annotations

import sys
import time

from atoll.domain.errors import EngineFault
from atoll.engine.channel import ChildChannel
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
from atoll.engine.serving import run_engine


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
                    bits=engine.bits,
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
    run_engine(argv, EndsMessage, serve)


if __name__ == "__main__":
    main(sys.argv[1:])
