"""A loaded model and its context: rows in, hidden states or logits out.

The binding's settings are those under which llama.cpp's results were found to
keep their bits (docs/adr/0002-engine.md): separate KV streams, full-size
sliding-window cache, flash attention on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.domain.errors import BadModel, EngineFault
from atoll.engine import row_by_row
from atoll.engine.batch import Span
from atoll.engine.feed import InputFeed
from atoll.engine.library import Library, device_pointer, load_library
from atoll.engine.tap import GraphWatch, LayerTap
from atoll.model.architectures import TABLE

Rows = NDArray[np.float32]
"""Hidden states or logits, shape (rows, width), float32, C-contiguous."""

FLASH_ATTENTION_ON = 1
LLAMA_MAX_SEQ = 256
ALL_LAYERS = 2**31 - 1
"""As `n_gpu_layers`: the output head too, so that the graph stays on one device."""
CELLS_MAX = 2**31 - 1
"""KV cells of all slots together; llama.cpp counts them in 32 bits."""
LARGE_CALL_ROWS = 2
"""A lone row is bound by reading the weights, and one thread may read as fast as
two. More rows are bound by arithmetic: ten layers of SmolLM2 took 1.65 ms with one
thread and 1.27 ms with two for one row, 3.62 and 2.45 ms for two, 11.8 and 6.3 ms
for eight."""


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """Size and threads of a context.

    Args:
        n_slots: Sequences with a KV cache of their own, 1 to 256.
        context: KV cells of each slot.
        rows_max: Most rows in one call (llama.cpp's micro-batch).
        threads: Worker threads for calls of one row.
        threads_large: Worker threads for calls of `LARGE_CALL_ROWS` rows and more.
        outputs_max: Most rows in a call whose logits are wanted.
    """

    n_slots: int
    context: int
    rows_max: int
    threads: int
    threads_large: int
    outputs_max: int


class Model:
    """Weights (or only the vocabulary) of one GGUF file."""

    def __init__(
        self, path: Path, *, vocab_only: bool = False, device: str = "", repack: bool = True
    ) -> None:
        """Load it.

        Args:
            path: The file.
            vocab_only: Leave the weights out.
            device: Name of the GPU that takes all of it; empty: the processor,
                whatever GPUs there are.
            repack: Let the processor's weights be laid out anew for its instructions.

        Raises:
            BadModel: llama.cpp refuses the file.
            EngineFault: There is no such GPU.
        """
        self.library: Library = load_library()
        lib = self.library.lib
        params = lib.llama_model_default_params()
        params.vocab_only = vocab_only
        # The list ends with NULL. An empty one keeps llama.cpp from choosing itself.
        chosen = [device_pointer(self.library, device)] if device else []
        devices = self.library.ffi.new("void *[]", [*chosen, self.library.ffi.NULL])
        params.devices = devices
        params.n_gpu_layers = ALL_LAYERS if device else 0
        params.use_extra_bufts = repack
        self._pointer: Any = lib.llama_model_load_from_file(str(path).encode(), params)
        if self._pointer == self.library.ffi.NULL:
            raise BadModel(
                f"the engine cannot load {path.name}", hint="see the log line above for the reason"
            )
        self.n_embd: int = lib.llama_model_n_embd(self._pointer)
        self.n_layers: int = lib.llama_model_n_layer(self._pointer)
        self.context_train: int = lib.llama_model_n_ctx_train(self._pointer)
        row = TABLE.get(self._architecture())
        self.scaled_input: str = row.scaled_input if row else ""
        """Name of the tensor that the graph makes of its input by scaling it; empty if none."""

    def _architecture(self) -> str:
        name = self.library.ffi.new("char[]", 64)
        self.library.lib.llama_model_meta_val_str(
            self._pointer, b"general.architecture", name, len(name)
        )
        return str(self.library.ffi.string(name).decode("utf-8", "replace"))

    @property
    def pointer(self) -> Any:
        """The `llama_model *`."""
        return self._pointer

    def close(self) -> None:
        """Free the weights; contexts made from it must be closed before."""
        if self._pointer is not None:
            self.library.lib.llama_model_free(self._pointer)
            self._pointer = None


class Context:
    """KV caches of one model, and the calls that fill and read them.

    Not thread-safe; one caller. Positions of a slot must continue exactly:
    the first row of a span is the slot's next position after dropping what is
    at `keep` and beyond.
    """

    def __init__(self, model: Model, options: ContextOptions, *, tap: bool) -> None:
        """Make the context; with `tap`, calls return the last layer's output.

        Raises:
            EngineFault: llama.cpp cannot make it (most often: memory).
        """
        if tap and options.outputs_max < options.rows_max:
            raise ValueError("every row of a tapped call is an output")
        self.model = model
        self.options = options
        self._ffi, self._lib = model.library.ffi, model.library.lib
        self._make_batch(options.rows_max)
        self._tap = LayerTap(model.library, model.n_layers, model.n_embd) if tap else None
        self._feed: InputFeed | None = None
        self._watch: LayerTap | GraphWatch | None = self._tap
        if model.scaled_input:
            self._feed = InputFeed(model.library, model.scaled_input, self._embd)
            self._watch = GraphWatch(model.library, self._feed, self._tap)
        self._watched = [watch for watch in (self._tap, self._feed) if watch is not None]
        self._pointer: Any = self._ffi.NULL
        if options.context * options.n_slots <= CELLS_MAX:
            self._pointer = self._lib.llama_init_from_model(model.pointer, self._params())
        if self._pointer == self._ffi.NULL:
            raise EngineFault(
                f"the engine has no room for {options.n_slots} slots of {options.context} cells",
                hint="ask for fewer streams or a shorter context",
            )
        self._memory = self._lib.llama_get_memory(self._pointer)
        self._n_vocab = self._lib.llama_vocab_n_tokens(
            self._lib.llama_model_get_vocab(model.pointer)
        )
        self.is_tapped = tap
        self.row_by_row = False
        """Whether exact rows are computed in calls of their own (`engine.numeric_class`)."""
        self._held = [0] * options.n_slots
        self._reached = [0] * options.n_slots
        self._threads = 0

    def _params(self) -> Any:
        o = self.options
        params = self._lib.llama_context_default_params()
        params.n_ctx = o.context * o.n_slots
        params.n_batch = params.n_ubatch = o.rows_max
        params.n_seq_max = o.n_slots
        params.n_outputs_max = max(o.outputs_max, o.n_slots)
        params.n_outputs_max_per_seq = o.outputs_max
        params.n_threads, params.n_threads_batch = o.threads, o.threads_large
        params.flash_attn_type = FLASH_ATTENTION_ON
        params.kv_unified, params.swa_full = False, True
        if self._watch is not None:
            params.cb_eval, params.cb_eval_user_data = self._watch.callback()
        return params

    def _make_batch(self, rows: int) -> None:
        ffi = self._ffi
        self._embd = np.zeros((rows, self.model.n_embd), np.float32)
        self._tokens = np.zeros(rows, np.int32)
        self._pos = np.zeros(rows, np.int32)
        self._seq = np.zeros(rows, np.int32)
        self._want = np.ones(rows, np.int8)
        self._n_seq = np.ones(rows, np.int32)
        seq_base = ffi.from_buffer("int32_t[]", self._seq)
        self._seq_pointers = ffi.new("int32_t *[]", [seq_base + i for i in range(rows)])
        self._kept = seq_base
        self._batch = ffi.new("llama_batch *")
        self._batch.pos = ffi.from_buffer("int32_t[]", self._pos)
        self._batch.n_seq_id = ffi.from_buffer("int32_t[]", self._n_seq)
        self._batch.seq_id = self._seq_pointers
        self._batch.logits = ffi.from_buffer("int8_t[]", self._want)
        self._embd_pointer = ffi.from_buffer("float[]", self._embd)

    def held(self, slot: int) -> int:
        """Positions of `slot` in the cache: [0, held)."""
        return self._held[slot]

    def reached(self, slot: int) -> int:
        """Cells of `slot` that were ever written: [0, reached). What is dropped stays there."""
        return self._reached[slot]

    def gap(self, span: Span) -> str:
        """Why the positions of `span` do not continue its slot's; empty where they do."""
        held = self._held[span.slot] if 0 <= span.slot < len(self._held) else span.keep
        return (
            "" if span.keep <= held else f"slot {span.slot} holds {held} positions, not {span.keep}"
        )

    def drop(self, slot: int, keep: int = 0) -> None:
        """Forget the positions of `slot` at `keep` and beyond.

        Raises:
            EngineFault: The cache cannot go back that far.
            ValueError: There is no such slot, or `keep` is negative.
        """
        if not 0 <= slot < len(self._held) or keep < 0:
            raise ValueError(f"slot {slot} from position {keep} is beyond {self.options}")
        if self._held[slot] <= keep:
            return
        if not self._lib.llama_memory_seq_rm(self._memory, slot, keep, -1):
            raise EngineFault(f"the cache of slot {slot} cannot go back to position {keep}")
        self._held[slot] = keep

    @property
    def pointer(self) -> Any:
        """The `llama_context *`."""
        return self._pointer

    def restored(self, slot: int, positions: int) -> None:
        """So many positions of a slot were put in from outside (`engine.state`)."""
        self._held[slot] = positions
        self._reached[slot] = max(self._reached[slot], positions)

    def inputs(self, n: int) -> Rows:
        """Where the next call's `n` hidden states are to be written, shape (n, n_embd)."""
        return self._embd[:n]

    def hidden(self, spans: list[Span], *, exact: bool = False) -> Rows:
        """Run the layers over one legal call (see `batch.lay_out`).

        The hidden states of all spans, in order, lie in `inputs`.

        Args:
            spans: One legal call.
            exact: Give every row the bits that it has when it is computed alone.

        Returns:
            The last layer's output for every row, same shape. The array is
            reused by the next call.

        Raises:
            EngineFault: The call failed or gave no output, or a slot does not
                hold the positions before its span.
            ValueError: A span is beyond the context's size.
        """
        tap = self._tap
        assert tap is not None, "this context was made without a tap"
        if self._goes_singly(spans, exact):
            return row_by_row.hidden(self, spans)
        n = self._place_rows(spans)
        self._want[:n] = 1
        self._decode_watched(spans, n, exact)
        return tap.rows(n)

    def logits(self, spans: list[Span], wanted: list[int], *, exact: bool = False) -> list[Rows]:
        """Run the layers and the head over one legal call, whose rows lie in `inputs`.

        Args:
            spans: One legal call.
            wanted: Indices of the rows whose logits are wanted, ascending.
            exact: Give every row the bits that it has when it is computed alone.

        Returns:
            One array of shape (n_vocab,) for each wanted row; views that the
            next call overwrites.

        Raises:
            EngineFault: As `hidden`.
            ValueError: A span, or what is wanted, is beyond the context's size.
        """
        if self._goes_singly(spans, exact):
            return row_by_row.logits(self, spans, wanted)
        n = self._place_rows(spans)
        return self._run_head(spans, n, wanted, exact)

    def outcome(self, span: Span) -> Rows:
        """What comes of one span whose rows lie in `inputs`, whatever the context gives.

        Returns:
            With a tap every row's hidden state, else the last row's logits, shape
            (rows, width). The next call overwrites it. Raises as `hidden`.
        """
        if self._tap is not None:
            return self.hidden([span])
        return self.logits([span], [span.rows - 1])[0][None]

    def logits_of_tokens(
        self, spans: list[Span], tokens: NDArray[np.int32], wanted: list[int], *, exact: bool
    ) -> list[Rows]:
        """As `logits`, for a whole model that is fed token ids."""
        if self._goes_singly(spans, exact):
            return row_by_row.logits_of_tokens(self, spans, tokens, wanted)
        n = self._place(spans)
        self._tokens[:n] = tokens
        self._batch.embd = self._ffi.NULL
        self._batch.token = self._ffi.from_buffer("int32_t[]", self._tokens)
        return self._run_head(spans, n, wanted, exact)

    def _run_head(self, spans: list[Span], n: int, wanted: list[int], exact: bool) -> list[Rows]:
        if len(wanted) > max(self.options.outputs_max, self.options.n_slots):
            raise ValueError(f"logits of {len(wanted)} rows are beyond {self.options}")
        if wanted and not 0 <= min(wanted) <= max(wanted) < n:
            raise ValueError(f"rows {wanted} are not among the call's {n}")
        self._want[:n] = 0
        self._want[wanted] = 1
        self._decode_watched(spans, n, exact)
        return [self._logits_row(i) for i in wanted]

    def _logits_row(self, i: int) -> Rows:
        pointer = self._lib.llama_get_logits_ith(self._pointer, i)
        if pointer == self._ffi.NULL:
            raise EngineFault(f"the engine gave no logits for row {i}")
        return np.frombuffer(self._ffi.buffer(pointer, 4 * self._n_vocab), np.float32)

    def _goes_singly(self, spans: list[Span], exact: bool) -> bool:
        return exact and self.row_by_row and row_by_row.rows_in(spans) > 1

    def _place_rows(self, spans: list[Span]) -> int:
        self._batch.token = self._ffi.NULL
        self._batch.embd = self._embd_pointer
        return self._place(spans)

    def _place(self, spans: list[Span]) -> int:
        """Write positions and slots; everything llama.cpp would abort on is checked here."""
        n = 0
        for span in spans:
            end = n + span.rows
            beyond = end > self.options.rows_max or span.keep + span.rows > self.options.context
            if beyond or span.rows < 1:
                raise ValueError(f"{span} is beyond {self.options}")
            self.drop(span.slot, span.keep)
            if gap := self.gap(span):
                raise EngineFault(gap)
            if span.rows == 1:
                self._pos[n] = span.keep
                self._seq[n] = span.slot
            else:
                self._pos[n:end] = np.arange(span.keep, span.keep + span.rows, dtype=np.int32)
                self._seq[n:end] = span.slot
            n = end
        self._batch.n_tokens = n
        return n

    def _decode_watched(self, spans: list[Span], n: int, exact: bool) -> None:
        """`_decode`, and once more where the watched tensors were not where they had been."""
        fed = self._batch.embd != self._ffi.NULL
        for watch in self._watched:
            watch.arm(n if fed else 0)
        self._decode(spans, n, exact)
        if all(watch.hit() for watch in self._watched):
            return
        # The graph was built anew at another address: learn it and run again.
        for span in spans:
            self.drop(span.slot, span.keep)
        for watch in self._watched:
            watch.search(n)
        self._decode(spans, n, exact)
        if self._feed is not None and not self._feed.hit():
            raise EngineFault(f"the engine's graph has no tensor {self.model.scaled_input!r}")

    def _decode(self, spans: list[Span], n: int, exact: bool) -> None:
        threads = self.options.threads if n < LARGE_CALL_ROWS else self.options.threads_large
        if exact and n == 1:
            threads = 1  # a lone row past 512 cells splits over threads and changes bits
        if threads != self._threads:
            self._lib.llama_set_n_threads(self._pointer, threads, threads)
            self._threads = threads
        rc = self._lib.llama_decode(self._pointer, self._batch[0])
        if rc != 0:
            # Only what went in before is certain; forget the rest.
            for span in spans:
                self._lib.llama_memory_seq_rm(self._memory, span.slot, span.keep, -1)
            raise EngineFault(f"the engine's decode call failed with code {rc}")
        for span in spans:
            self._held[span.slot] = end = span.keep + span.rows
            self._reached[span.slot] = max(self._reached[span.slot], end)

    def close(self) -> None:
        """Free the caches."""
        if self._pointer is not None:
            self._lib.llama_free(self._pointer)
            self._pointer = None
