"""A model of hashes: as strict about order and prefix as a real one, and instant.

Layer l keeps for each position p the chain c[p] = mix(c[p - 1], input[p]) as
its KV cache and returns mix(l + 1, c[p]). So a row depends on every token
before it and on every layer it passed, in order: one window too many, too
few, at a wrong position or in a wrong slot gives another token.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from atoll.domain.generation import GenerateRequest, Sampled
from atoll.domain.ids import Slot
from atoll.ring.messages import Payload

VOCABULARY = 40
END_TOKEN = 0
_MASK = (1 << 64) - 1


class ModelMisuse(Exception):
    """An engine was asked for something that a real one would not survive."""


def mix(a: int, b: int) -> int:
    """A 64-bit hash of two numbers (multipliers of SplitMix64)."""
    x = (a * 0x9E3779B97F4A7C15 + b + 1) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    return x ^ (x >> 31)


def embed(token: int) -> int:
    """The row that enters layer 0."""
    return mix(7, token)


def choose(row: int) -> int:
    """The token that a last layer's row stands for."""
    return row % VOCABULARY


def pack(rows: list[int]) -> bytes:
    """Rows as a payload, 8 bytes each."""
    return struct.pack(f"<{len(rows)}Q", *rows)


def unpack(payload: Payload, rows: int) -> list[int]:
    """A payload's rows.

    Raises:
        ModelMisuse: It does not hold exactly `rows` of them.
    """
    if len(payload) != 8 * rows:
        raise ModelMisuse(f"{len(payload)} bytes are not {rows} rows")
    return list(struct.unpack(f"<{rows}Q", payload))


class FakeShard:
    """Layers [first, last) with a KV cache by slot."""

    def __init__(self, first: int, last: int) -> None:
        self._layers = range(first, last)
        self._kv: dict[Slot, list[list[int]]] = {}

    @property
    def slots_held(self) -> int:
        """Slots with anything in their cache."""
        return len(self._kv)

    def drop(self, slot: Slot) -> None:
        """Clear a slot."""
        self._kv.pop(slot, None)

    def take(self, slot: Slot, tokens: int) -> bytes | None:
        """Take a slot's first positions out; None where it holds fewer. It is empty then."""
        chains = self._kv.pop(slot, [])
        if self._layers and (not chains or len(chains[0]) < tokens):
            return None
        return pack([value for chain in chains for value in chain[:tokens]])

    def put(self, slot: Slot, tokens: int, parcel: bytes) -> None:
        """Put what `take` gave into a slot.

        Raises:
            ModelMisuse: It is not of so many tokens.
        """
        values = unpack(parcel, tokens * len(self._layers))
        self._kv[slot] = [values[i : i + tokens] for i in range(0, len(values), tokens)]

    def run(self, slot: Slot, keep: int, rows: list[int]) -> list[int]:
        """Roll the slot back to `keep` positions and compute the rows behind them.

        Raises:
            ModelMisuse: The slot holds fewer than `keep` positions.
        """
        chains = self._kv.setdefault(slot, [[] for _ in self._layers])
        if chains and keep > len(chains[0]):
            raise ModelMisuse(f"slot {slot} holds {len(chains[0])} positions, not {keep}")
        for chain in chains:
            del chain[keep:]
        for layer, chain in zip(self._layers, chains, strict=True):
            before = chain[-1] if chain else 3
            out = []
            for row in rows:
                before = mix(before, row)
                chain.append(before)
                out.append(mix(layer + 1, before))
            rows = out
        return list(rows)


def sample(row: int, request: GenerateRequest, *, last: bool) -> Sampled:
    """The token of a row, with its finish."""
    token = choose(row)
    if token == END_TOKEN and not request.ignore_eos:
        return Sampled(token, b"", "stop")
    return Sampled(token, b"%d " % token, "length" if last else None)


@lru_cache(maxsize=1024)
def expected_output(request: GenerateRequest, n_layers: int, context: int) -> tuple[Sampled, ...]:
    """What the whole model says, computed alone and in one piece."""
    model = FakeShard(0, n_layers)
    slot = Slot(0)
    row = model.run(slot, 0, [embed(token) for token in request.prompt])[-1]
    out: list[Sampled] = []
    position = len(request.prompt)
    while True:
        last = len(out) + 1 == request.max_tokens or position == context
        out.append(sample(row, request, last=last))
        if out[-1].finish is not None:
            return tuple(out)
        row = model.run(slot, position, [embed(out[-1].token)])[-1]
        position += 1
