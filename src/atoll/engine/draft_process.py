"""The draft process: the gateway's child that guesses next tokens with a small model.

Like a stage process it has no network and answers on one socket pair.
"""

from __future__ import annotations

import sys
import time

from atoll.domain.errors import EngineFault
from atoll.engine.channel import ChildChannel
from atoll.engine.draft import DraftEngine
from atoll.engine.draft_messages import (
    DraftDone,
    DraftLoaded,
    DraftMessage,
    DraftOptions,
    RunDraft,
)
from atoll.engine.serving import run_engine


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
    run_engine(argv, DraftMessage, serve)


if __name__ == "__main__":
    main(sys.argv[1:])
