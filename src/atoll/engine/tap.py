"""The tap: reads the last layer's output and stops the graph there.

llama.cpp calls `cb_eval` for every node of the graph with `ask` set, and once
more after computing a node that was asked for; returning false then stops the
graph, so that neither final norm nor head is computed. A shard of ten layers
has some 350 nodes, so the answer compares one cached address instead of names,
and tensors arrive as plain numbers: wrapping each would cost more than asking.
`GraphWatch` is the callback of a context that has a feed too.

On a GPU the graph may be computed in several splits, one a device, and false
ends only the current one (ggml-backend.cpp of b11549, function
ggml_backend_sched_compute_splits). That is enough. The device is synchronised
before the callback, and the rows are copied out inside it, so no later split
can have written over them. What later splits still compute is norm and head:
every layer writes its keys and values before its output, which the last
layer's output depends on. Their nodes are asked about, and none is the tensor:
what a split takes over from another is a copy, which is no node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.domain.errors import EngineFault
from atoll.engine.feed import InputFeed
from atoll.engine.library import Library

TYPE_F32, FLOAT_BYTES = 0, 4
"""enum ggml_type in ggml.h."""


class LayerTap:
    """Catches the tensor `l_out-{n_layers - 1}`, shape (rows, n_embd), float32."""

    def __init__(self, library: Library, n_layers: int, n_embd: int) -> None:
        self._ffi, self._lib = library.ffi, library.lib
        self._name = f"l_out-{n_layers - 1}".encode()
        self._n_embd = n_embd
        self._out = np.zeros((0, n_embd), np.float32)
        self._expected = 0
        self._caught = 0
        self._problem = ""
        self._target = [0]
        self._on_node = self._ffi.callback("eval_callback", self._answer())

    def callback(self) -> tuple[Any, Any]:
        """`cb_eval` and its user data for the context's parameters."""
        return self._ffi.cast("void *", self._on_node), self._ffi.NULL

    def arm(self, rows: int) -> None:
        """Get ready for a call of `rows` rows."""
        if self._out.shape[0] < rows:
            self._out = np.zeros((rows, self._n_embd), np.float32)
        self._expected, self._caught, self._problem = rows, 0, ""

    def search(self, rows: int) -> None:
        """Get ready for a call in which the tensor is looked for by name."""
        self.arm(rows)
        self._target[0] = 0

    def hit(self) -> bool:
        """Whether the last call's rows were caught."""
        return self._caught == self._expected and not self._problem

    def rows(self, n: int) -> NDArray[np.float32]:
        """The caught rows, shape (n, n_embd); overwritten by the next call.

        Raises:
            EngineFault: They were not caught.
        """
        if not self.hit():
            raise EngineFault(
                self._problem or f"the engine gave {self._caught} of {self._expected} rows"
            )
        return self._out[:n]

    def asks(self, address: int) -> bool:
        """Whether this node of the graph may be the tensor."""
        known = self._target[0]
        return address == known if known else self._is_named(address)

    def _answer(self) -> Callable[[int, bool, int], bool]:
        """The callback; a closure, as it is called for every node of every graph."""
        target, catch, is_named = self._target, self.catch, self._is_named

        def answer(address: int, ask: bool, _user_data: int) -> bool:
            if not ask:
                return catch(address)
            known = target[0]
            return address == known if known else is_named(address)

        return answer

    def _tensor(self, address: int) -> Any:
        return self._ffi.cast("ggml_tensor *", address)

    def _is_named(self, address: int) -> bool:
        return bool(self._ffi.string(self._tensor(address).name) == self._name)

    def catch(self, address: int) -> bool:
        """Copy a computed node's rows if it is the tensor; whether the graph goes on."""
        if not self._is_named(address):
            self._target[0] = 0
            return True
        tensor = self._tensor(address)
        rows = tensor.ne[1]
        beyond = tensor.ne[0] != self._n_embd or self._caught + rows > self._expected
        if beyond or tensor.type != TYPE_F32 or tensor.nb[1] != FLOAT_BYTES * self._n_embd:
            self._problem = f"the engine's last layer has an unexpected shape, {rows} rows"
            return False
        part = self._out[self._caught : self._caught + rows]
        self._lib.ggml_backend_tensor_get(tensor, self._ffi.from_buffer(part), 0, part.nbytes)
        self._caught += rows
        self._target[0] = address
        return False


class GraphWatch:
    """One callback for a feed and, where there is one, a tap."""

    def __init__(self, library: Library, feed: InputFeed, tap: LayerTap | None) -> None:
        self._ffi = library.ffi

        def answer(address: int, ask: bool, _user_data: int) -> bool:
            if ask:
                return feed.asks(address) or (tap is not None and tap.asks(address))
            if feed.put(address) or tap is None:
                return True
            return tap.catch(address)

        self._on_node = self._ffi.callback("eval_callback", answer)

    def callback(self) -> tuple[Any, Any]:
        """`cb_eval` and its user data for the context's parameters."""
        return self._ffi.cast("void *", self._on_node), self._ffi.NULL
