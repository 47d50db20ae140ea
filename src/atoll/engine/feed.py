"""The feed: puts hidden states back that a graph scaled on their way in.

Some architectures (gemma2) multiply whatever enters their first layer, token
embeddings and hidden states alike. In a shard that is wrong: its rows come out
of another layer. Dividing them first would change bits, so the rows are written
over what the graph made of them, as soon as it is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.engine.library import Library


class InputFeed:
    """Writes rows, shape (rows, n_embd), float32, over the tensor of a given name."""

    def __init__(self, library: Library, name: str, rows: NDArray[np.float32]) -> None:
        """Watch for a tensor.

        Args:
            library: The engine.
            name: What the tensor is called in the graph.
            rows: Where the rows of each call lie.
        """
        self._ffi, self._lib = library.ffi, library.lib
        self._name = name.encode()
        self._rows = rows
        self._expected = 0
        self._put = 0
        self._target = 0

    def arm(self, rows: int) -> None:
        """Get ready for a call of `rows` rows; 0 if it is fed with tokens instead."""
        self._expected, self._put = rows, 0

    def search(self, rows: int) -> None:
        """Get ready for a call in which the tensor is looked for by name."""
        self.arm(rows)
        self._target = 0

    def hit(self) -> bool:
        """Whether all rows of the last call were put back."""
        return self._put == self._expected

    def asks(self, address: int) -> bool:
        """Whether this node of the graph may be the tensor."""
        if not self._expected:
            return False
        return address == self._target if self._target else self._is_named(address)

    def put(self, address: int) -> bool:
        """Write the next rows if a computed node is the tensor; whether it is."""
        if not self._expected or not self._is_named(address):
            if address == self._target:
                self._target = 0  # another node of a new graph
            return False
        tensor = self._ffi.cast("ggml_tensor *", address)
        part = self._rows[self._put : self._put + tensor.ne[1]]
        if tensor.ne[0] == part.shape[1] and tensor.ne[1] == len(part):
            self._lib.ggml_backend_tensor_set(tensor, self._ffi.from_buffer(part), 0, part.nbytes)
            self._put += len(part)
        self._target = address
        return True

    def _is_named(self, address: int) -> bool:
        tensor: Any = self._ffi.cast("ggml_tensor *", address)
        return bool(self._ffi.string(tensor.name) == self._name)
