"""The two ends of the ring: embedding and first layers, last layers and head.

They live in one process, so that a token that was just sampled goes straight
through the first layers: one hop of the ring less for every token.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from atoll.domain.errors import AtollError, BadModel, EngineFault
from atoll.domain.generation import FinishReason, GenerateRequest, Sampled, TopLogprob
from atoll.domain.wire import row_bytes
from atoll.engine import codec, numeric_class
from atoll.engine.batch import Span, lay_out
from atoll.engine.embedding import EmbeddingTable
from atoll.engine.ends_messages import EndsOptions, Head, ItemResult, Tail
from atoll.engine.library import device_title
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.engine.parcels import Parcels
from atoll.engine.sampling import Sampler
from atoll.engine.scrub import scrub
from atoll.engine.vocabulary import Vocabulary
from atoll.model.architectures import embedding_scale
from atoll.model.parts import open_model, tensor_file

WINDOW_NOT_FINITE = "the window holds NaN or infinity"


class _Work:
    """One `RunItems` under way: what each item has come to so far."""

    def __init__(self, items: Sequence[Head | Tail]) -> None:
        self.items = items
        self.problems = [""] * len(items)
        self.sampled: list[Sampled | None] = [None] * len(items)
        self.accepted: list[tuple[Sampled, ...]] = [()] * len(items)
        self.outputs: list[bytes] = [b""] * len(items)
        self.engine_s = 0.0

    def tails(self) -> list[tuple[int, Tail]]:
        """The tails with their places."""
        return [(i, item) for i, item in enumerate(self.items) if isinstance(item, Tail)]


_Next = tuple[int, int, tuple[int, ...]]
"""What goes through the first layers: the item's place, its keep, its tokens."""


class EndsEngine:
    """Both ends' contexts, the embedding table, and a sampler for each open slot."""

    def __init__(self, options: EndsOptions) -> None:
        """Load everything.

        Raises:
            BadModel: A file is not what it should be.
            EngineFault: There is no room for the caches.
        """
        self._options = options
        model_path = Path(options.model)
        gguf = open_model(model_path)
        embedding = gguf.tensor("token_embd.weight")
        self._table = EmbeddingTable(
            *tensor_file(model_path, gguf, embedding), scale=embedding_scale(gguf)
        )
        self._head_model = Model(Path(options.head), device=options.device)
        self._tail_model = Model(Path(options.tail), device=options.device)
        if not self._table.n_embd == self._head_model.n_embd == self._tail_model.n_embd:
            raise BadModel(
                "the ends are of models of another width than the embedding",
                hint="cut both ends from the model that is served",
            )
        self._head = Context(self._head_model, self._context(options.rows_max), tap=True)
        outputs = options.checked_max * options.n_slots
        self._tail = Context(self._tail_model, self._context(outputs), tap=False)
        self.bits = numeric_class.settle(self._head), numeric_class.settle(self._tail)
        self.parcels = Parcels([self._head, self._tail])
        self._vocabulary = Vocabulary(self._tail_model)
        self._open: dict[int, tuple[GenerateRequest, Sampler]] = {}

    def _context(self, outputs_max: int) -> ContextOptions:
        o = self._options
        return ContextOptions(
            n_slots=o.n_slots,
            context=o.context,
            rows_max=o.rows_max,
            threads=o.threads,
            threads_large=o.threads_large,
            outputs_max=outputs_max,
        )

    @property
    def build(self) -> str:
        """Name of the engine build."""
        return self._tail_model.library.build

    @property
    def device(self) -> str:
        """What it computes on, for people."""
        return device_title(self._tail_model.library, self._options.device)

    @property
    def n_embd(self) -> int:
        """Width of a hidden state."""
        return self._tail_model.n_embd

    @property
    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        return self._vocabulary.n_tokens

    def open(self, slot: int, request: GenerateRequest) -> None:
        """Set up the sampler of a session in `slot`, as it was behind the answer so far."""
        sampler = Sampler(request.sampling, request.prompt)
        for token in request.sampled:
            sampler.accept(token)
        self._open[slot] = (request, sampler)

    def close(self, slot: int, *, keep: bool = False) -> None:
        """Forget the session in `slot`; `keep`: not what is in the caches."""
        self._open.pop(slot, None)
        if not keep:
            self._head.drop(slot)
            self._tail.drop(slot)

    def run(
        self, items: Sequence[Head | Tail], payload: bytes
    ) -> tuple[list[ItemResult], list[bytes], float]:
        """Compute a batch.

        Returns:
            Results and next windows in the items' order, and the seconds spent
            in the engine.
        """
        work = _Work(items)
        heads: list[_Next] = [
            (i, it.keep, it.tokens) for i, it in enumerate(items) if isinstance(it, Head)
        ]
        heads += self._run_tails(work, payload)
        self._run_heads(work, heads)
        results = [
            ItemResult(problem, sampled, len(output), accepted)
            for problem, sampled, output, accepted in zip(
                work.problems, work.sampled, work.outputs, work.accepted, strict=True
            )
        ]
        return results, work.outputs, work.engine_s

    def _run_tails(self, work: _Work, payload: bytes) -> list[_Next]:
        """Last layers and sampling; returns what goes on through the first layers."""
        inputs: dict[int, memoryview] = {}
        view, at = memoryview(payload), 0
        for i, item in enumerate(work.items):
            if isinstance(item, Tail):
                size = item.rows * row_bytes(item.encoding, self.n_embd)
                inputs[i] = view[at : at + size]
                at += size
        chained: list[_Next] = []
        for exact in {work.items[i].exact for i in inputs}:
            tails = [
                (i, t) for i, t in work.tails() if t.exact == exact and self._follows(work, i, t)
            ]
            spans = [Span(tail.slot, tail.keep, tail.rows) for _, tail in tails]
            for call in lay_out(spans, self._options.rows_max):
                members = [tails[j] for j in call]
                self._tail_call(work, members, [spans[j] for j in call], inputs, exact)
                chained += [c for i, tail in members if (c := _chained(work, i, tail))]
        return chained

    def _follows(self, work: _Work, i: int, tail: Tail) -> bool:
        """Whether the window continues its slot; who shares the call must not suffer."""
        work.problems[i] = self._tail.gap(Span(tail.slot, tail.keep, tail.rows))
        return not work.problems[i]

    def _tail_call(
        self,
        work: _Work,
        members: list[tuple[int, Tail]],
        spans: list[Span],
        inputs: dict[int, memoryview],
        exact: bool,
    ) -> None:
        rows = self._tail.inputs(sum(span.rows for span in spans))
        wanted: list[int] = []
        asked: list[tuple[int, Tail]] = []
        end = 0
        for i, tail in members:
            start, end = end, end + tail.rows
            codec.decode_into(rows[start:end], inputs[i], tail.encoding)
            if not codec.is_finite(rows[start:end]):
                work.problems[i] = WINDOW_NOT_FINITE
                self._tail.drop(tail.slot, tail.keep)
            if tail.sample:
                wanted += range(end - tail.checked, end)
                asked.append((i, tail))
        if any(work.problems[i] for i, _ in members):
            # What is not finite must not reach the caches; the others go on without it.
            sound = [j for j, (i, _) in enumerate(members) if not work.problems[i]]
            for call in lay_out([spans[j] for j in sound], self._options.rows_max):
                kept = [sound[j] for j in call]
                part = [members[j] for j in kept]
                self._tail_call(work, part, [spans[j] for j in kept], inputs, exact)
            return
        start_s = time.perf_counter()
        try:
            logits = self._tail.logits(spans, wanted, exact=exact)
        except EngineFault as error:
            for i, _ in members:
                work.problems[i] = str(error)
            return
        finally:
            work.engine_s += time.perf_counter() - start_s
        spoilt: list[tuple[int, int]] = []
        at = 0
        for i, tail in asked:
            checked = logits[at : at + tail.checked]
            at += tail.checked
            try:
                *accepted, work.sampled[i] = self._choose(tail, checked)
                work.accepted[i] = tuple(accepted)
            except AtollError as error:
                work.problems[i] = str(error)
                if not all(codec.is_finite(row) for row in checked):
                    spoilt.append((i, tail.slot))
        for i, slot in spoilt:
            # Which of the session's rows brought it is not known: only this one was seen.
            self._scrub(work, i, self._tail, slot)

    def _scrub(self, work: _Work, i: int, context: Context, slot: int) -> None:
        """Clean a slot in which NaN or infinity arose; nothing of its session stays."""
        try:
            scrub(context, slot)
        except EngineFault as error:
            work.problems[i] += f"; {error}"

    def _choose(self, item: Tail, logits: Sequence[codec.Rows]) -> list[Sampled]:
        """The tokens behind the checked rows, up to the first that was not guessed.

        Each is drawn as if there were no guesses, so these change no answer.
        """
        if item.slot not in self._open:
            raise EngineFault(f"no session is open in slot {item.slot}")
        request, sampler = self._open[item.slot]
        found: list[Sampled] = []
        for i, row in enumerate(logits, start=1):
            last = item.last and i == item.checked
            position = item.keep + item.rows - item.checked + i
            found.append(self._next(request, sampler, row, position, last=last))
            if found[-1].finish or item.guesses[i - 1 : i] != (found[-1].token,):
                break
        return found

    def _next(
        self,
        request: GenerateRequest,
        sampler: Sampler,
        logits: codec.Rows,
        position: int,
        *,
        last: bool,
    ) -> Sampled:
        choice = sampler.sample(logits, position)
        sampler.accept(choice.token)
        finish: FinishReason | None = "length" if last else None
        piece = self._vocabulary.piece(choice.token)
        if not request.ignore_eos and self._vocabulary.is_end(choice.token):
            finish, piece = "stop", b""
        top = tuple(
            TopLogprob(token, self._vocabulary.piece(token, special=True), logprob)
            for token, logprob in choice.top
        )
        return Sampled(choice.token, piece, finish, choice.logprob, top)

    def _run_heads(self, work: _Work, heads: list[_Next]) -> None:
        """First layers over tokens given as (item, keep, tokens)."""
        heads = [head for head in heads if self._sound(work, head)]
        for exact in {work.items[i].exact for i, _, _ in heads}:
            group = [h for h in heads if work.items[h[0]].exact == exact]
            spans = [Span(work.items[i].slot, keep, len(tokens)) for i, keep, tokens in group]
            for call in lay_out(spans, self._options.rows_max):
                self._head_call(work, [group[j] for j in call], [spans[j] for j in call], exact)

    def _sound(self, work: _Work, head: _Next) -> bool:
        """Whether it can be computed; who shares the call must not suffer if not."""
        i, keep, tokens = head
        n = self._table.n_vocab
        problem = self._head.gap(Span(work.items[i].slot, keep, len(tokens)))
        for token in tokens:
            if not 0 <= token < n:
                problem = f"token id {token} is outside the vocabulary of {n}"
                break
        work.problems[i] = problem
        return not problem

    def _head_call(
        self,
        work: _Work,
        members: list[_Next],
        spans: list[Span],
        exact: bool,
    ) -> None:
        start = time.perf_counter()
        try:
            tokens = [token for _, _, part in members for token in part]
            self._table.rows_into(self._head.inputs(len(tokens)), tokens)
            hidden = self._head.hidden(spans, exact=exact)
        except EngineFault as error:
            for i, _, _ in members:
                work.problems[i] = str(error)
            return
        finally:
            work.engine_s += time.perf_counter() - start
        at = 0
        spoilt: list[tuple[int, int]] = []
        for (i, _, _), span in zip(members, spans, strict=True):
            try:
                part = hidden[at : at + span.rows]
                work.outputs[i] = codec.encode(part, work.items[i].encoding)
            except codec.NotFinite as error:
                work.problems[i] = f"the first layers computed no usable numbers: {error}"
                spoilt.append((i, span.slot))
            at += span.rows
        for i, slot in spoilt:
            self._scrub(work, i, self._head, slot)


def _chained(work: _Work, i: int, tail: Tail) -> _Next | None:
    """The sampled token, if it goes straight on through the first layers."""
    sampled = work.sampled[i]
    if not tail.chain or sampled is None or sampled.finish is not None:
        return None
    return i, tail.keep + tail.rows, (sampled.token,)
