"""The stage process: one shard, its KV caches, and nothing else.

It is a child of the node, without network, and talks over one inherited socket
pair (`engine.channel`). Whatever aborts inside llama.cpp takes only this
process down; the node sees the socket close.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path

from atoll.domain.errors import EngineFault
from atoll.domain.wire import row_bytes
from atoll.engine import codec, numeric_class
from atoll.engine.batch import Span, lay_out
from atoll.engine.channel import ChildChannel
from atoll.engine.library import device_title
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.engine.parcel_messages import PutIn, TakeOut
from atoll.engine.parcels import Parcels
from atoll.engine.scrub import scrub
from atoll.engine.serving import run_engine
from atoll.engine.stage_messages import (
    Compute,
    Computed,
    Drop,
    Item,
    Loaded,
    StageOptions,
    StageRequest,
)

WINDOW_NOT_FINITE = "the window holds NaN or infinity"


class _Work:
    """One batch under way: what each item has come to so far."""

    def __init__(self, items: tuple[Item, ...], inputs: list[memoryview]) -> None:
        self.items, self.inputs = items, inputs
        self.outputs = [b""] * len(items)
        self.problems = [""] * len(items)
        self.engine_s = 0.0


class StageEngine:
    """A shard's context, and batches of encoded windows run through it."""

    def __init__(self, options: StageOptions) -> None:
        """Load the shard.

        Raises:
            BadModel: llama.cpp refuses the shard.
            EngineFault: There is no room for the caches, or no such GPU.
        """
        self._options = options
        self._model = Model(Path(options.path), device=options.device)
        self._context = Context(self._model, context_options(options), tap=True)
        self.bits = numeric_class.settle(self._context)
        self.parcels = Parcels([self._context])

    @property
    def build(self) -> str:
        """Name of the engine build."""
        return self._model.library.build

    @property
    def device(self) -> str:
        """What it computes on, for people."""
        return device_title(self._model.library, self._options.device)

    @property
    def n_embd(self) -> int:
        """Width of a hidden state."""
        return self._model.n_embd

    @property
    def n_layers(self) -> int:
        """Layers of the shard."""
        return self._model.n_layers

    def drop(self, slot: int) -> None:
        """Forget a slot."""
        self._context.drop(slot)

    def compute(
        self, items: tuple[Item, ...], payload: bytes
    ) -> tuple[list[bytes], list[str], float]:
        """Outputs of a batch, in the items' order.

        Args:
            items: At most one per slot.
            payload: The items' encoded hidden states, one after the other.

        Returns:
            For each item its encoded output and its problem (one of the two is
            empty), and the seconds spent in the engine.
        """
        view, starts, at = memoryview(payload), [], 0
        for item in items:
            starts.append(at)
            at += item.rows * row_bytes(item.encoding, self.n_embd)
        work = _Work(items, [view[a:b] for a, b in pairwise([*starts, at])])
        every = [Span(item.slot, item.keep, item.rows) for item in items]
        # One session's gap must not fail the call of those who share it.
        work.problems = [self._context.gap(span) for span in every]
        for exact in {item.exact for item in items}:
            members = [
                i for i, it in enumerate(items) if it.exact == exact and not work.problems[i]
            ]
            spans = [every[i] for i in members]
            for call in lay_out(spans, self._options.rows_max):
                self._call(work, [members[j] for j in call], [spans[j] for j in call], exact)
        return work.outputs, work.problems, work.engine_s

    def _call(self, work: _Work, members: list[int], spans: list[Span], exact: bool) -> None:
        """One engine call over `members` of the batch."""
        rows = self._context.inputs(sum(span.rows for span in spans))
        at = 0
        for i, span in zip(members, spans, strict=True):
            part = rows[at : at + span.rows]
            codec.decode_into(part, work.inputs[i], work.items[i].encoding)
            if not codec.is_finite(part):
                work.problems[i] = WINDOW_NOT_FINITE
                self._context.drop(span.slot, span.keep)
            at += span.rows
        if any(work.problems[i] for i in members):
            # What is not finite must not reach the caches; the others go on without it.
            sound = [j for j, i in enumerate(members) if not work.problems[i]]
            for call in lay_out([spans[j] for j in sound], self._options.rows_max):
                kept = [sound[j] for j in call]
                self._call(work, [members[j] for j in kept], [spans[j] for j in kept], exact)
            return
        start = time.perf_counter()
        try:
            hidden = self._context.hidden(spans, exact=exact)
        except EngineFault as error:
            for i in members:
                work.problems[i] = str(error)
            return
        finally:
            work.engine_s += time.perf_counter() - start
        at, spoilt = 0, []
        for i, span in zip(members, spans, strict=True):
            try:
                part = hidden[at : at + span.rows]
                work.outputs[i] = codec.encode(part, work.items[i].encoding)
            except codec.NotFinite:
                work.problems[i] = "the stage computed NaN or infinity"
                spoilt.append((i, span))
            at += span.rows
        for i, span in spoilt:
            try:
                scrub(self._context, span.slot, span.keep)
            except EngineFault as error:
                work.problems[i] += f"; {error}"

    def close(self) -> None:
        """Free everything."""
        self._context.close()
        self._model.close()


def context_options(options: StageOptions) -> ContextOptions:
    """The engine's context for a stage: every row of a call is an output."""
    return ContextOptions(
        n_slots=options.n_slots,
        context=options.context,
        rows_max=options.rows_max,
        threads=options.threads,
        threads_large=options.threads_large,
        outputs_max=options.rows_max,
    )


def serve(channel: ChildChannel[StageRequest], isolation: tuple[str, ...]) -> None:
    """Answer requests until the parent is gone."""
    engine: StageEngine | None = None
    while (received := channel.receive()) is not None:
        message, payload = received
        start = time.perf_counter()
        match message:
            case StageOptions():
                engine = StageEngine(message)
                loaded = Loaded(
                    build=engine.build,
                    n_embd=engine.n_embd,
                    n_layers=engine.n_layers,
                    load_s=time.perf_counter() - start,
                    isolation=isolation,
                    device=engine.device,
                    bits=engine.bits,
                )
                channel.send(loaded)
            case Compute() if engine is not None:
                outputs, problems, engine_s = engine.compute(message.items, payload)
                sizes = tuple(len(output) for output in outputs)
                busy_s = time.perf_counter() - start
                computed = Computed(message.batch, tuple(problems), sizes, engine_s, busy_s)
                channel.send(computed, *outputs)
            case Drop() if engine is not None:
                engine.drop(message.slot)
            case TakeOut() | PutIn() if engine is not None:
                channel.send(*engine.parcels.obey(message, payload))
            case _:
                raise EngineFault("the stage was asked to work before it was loaded")


def main(argv: list[str]) -> None:
    """Run as `python -m atoll.engine.stage_process FD`."""
    run_engine(argv, StageRequest, serve)


if __name__ == "__main__":
    main(sys.argv[1:])
