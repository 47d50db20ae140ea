"""Parcels: a slot's caches, encrypted by the engine process that computed them.

The key is made when the process starts and never leaves it, so that nobody else, not
even the node or the gateway, can read what a conversation left in the caches, and the
process takes back only what it gave itself: the engine trusts a state's bytes, and
would be at the mercy of whoever could make them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atoll.domain.errors import EngineFault
from atoll.engine.llama import Context
from atoll.engine.parcel_messages import GivenIn, ParcelAnswer, ParcelOrder, TakenOut, TakeOut
from atoll.engine.state import put_state, state_bytes, take_state

PARCEL_BYTES_MAX = 192 * 1024**2
"""Most bytes of a parcel: it goes through the channel as one message (`engine.channel`), and
a process's memory has to hold it a few times over for a moment."""
NONCE_BYTES = 12
TAG_BYTES = 16
_LENGTH = struct.Struct("<Q")
_NONCE = struct.Struct("<4xQ")


class ParcelFault(EngineFault):
    """A parcel cannot be made or taken; the slot is empty."""


class Parcels:
    """Makes and takes the parcels of one engine process.

    Args:
        contexts: All that hold a part of each slot's caches.
        bytes_max: Most bytes of a parcel.
    """

    def __init__(self, contexts: Sequence[Context], bytes_max: int = PARCEL_BYTES_MAX) -> None:
        self._contexts = tuple(contexts)
        self._bytes_max = bytes_max
        self._cipher = AESGCM(AESGCM.generate_key(256))
        # A key that one process has alone: a counter never gives a nonce twice.
        self._made = 0

    def obey(self, order: ParcelOrder, payload: bytes) -> tuple[ParcelAnswer, bytes]:
        """Carry an order out; the answer, and the parcel if it asks for one."""
        try:
            if isinstance(order, TakeOut):
                parcel = self.take_out(order.slot, order.tokens, order.label)
                return TakenOut(order.parcel), parcel
            self.put_in(order.slot, order.tokens, order.label, payload)
        except ParcelFault as fault:
            answer = TakenOut if isinstance(order, TakeOut) else GivenIn
            return answer(order.parcel, fault.problem), b""
        return GivenIn(order.parcel), b""

    def take_out(self, slot: int, tokens: int, label: bytes) -> bytes:
        """Take a slot's first positions out as a parcel; the slot is empty then.

        Args:
            slot: Which one.
            tokens: How many positions.
            label: What `put_in` has to name too.

        Raises:
            ParcelFault: It holds fewer, or the parcel would be too large.
        """
        try:
            return self._sealed(self._states(slot, tokens), tokens, label)
        except EngineFault as fault:
            raise ParcelFault(fault.problem) from fault
        finally:
            self._empty(slot)

    def put_in(self, slot: int, tokens: int, label: bytes, parcel: bytes) -> None:
        """Put a parcel into a slot, in place of what it holds.

        Raises:
            ParcelFault: It is not as it was made here, with these tokens and this label.
        """
        try:
            states = self._opened(parcel, tokens, label)
            for context, state in zip(self._contexts, states, strict=True):
                put_state(context, slot, state, tokens)
        except EngineFault as fault:
            self._empty(slot)
            raise ParcelFault(fault.problem) from fault

    def _states(self, slot: int, tokens: int) -> list[bytearray]:
        for context in self._contexts:
            context.drop(slot, max(0, tokens))
            if tokens < 1 or context.held(slot) != tokens:
                raise EngineFault(f"slot {slot} holds {context.held(slot)} positions, not {tokens}")
        size = sum(state_bytes(context, slot) for context in self._contexts)
        if size > self._bytes_max:
            raise EngineFault(f"{size} bytes are too large for a parcel")
        return [take_state(context, slot) for context in self._contexts]

    def _sealed(self, states: Sequence[bytearray], tokens: int, label: bytes) -> bytes:
        self._made += 1
        nonce = _NONCE.pack(self._made)
        plain = b"".join(part for state in states for part in (_LENGTH.pack(len(state)), state))
        return nonce + self._cipher.encrypt(nonce, plain, _bound(tokens, label))

    def _opened(self, parcel: bytes, tokens: int, label: bytes) -> list[memoryview]:
        if len(parcel) < NONCE_BYTES + TAG_BYTES:
            raise EngineFault("the parcel was cut")
        nonce, sealed = parcel[:NONCE_BYTES], memoryview(parcel)[NONCE_BYTES:]
        try:
            plain = memoryview(self._cipher.decrypt(nonce, sealed, _bound(tokens, label)))
        except InvalidTag:
            raise EngineFault("the parcel was changed, or is another one") from None
        states, at = [], 0
        for _ in self._contexts:
            (size,) = _LENGTH.unpack_from(plain, at)
            at += _LENGTH.size
            states.append(plain[at : at + size])
            at += size
        return states

    def _empty(self, slot: int) -> None:
        for context in self._contexts:
            context.drop(slot)


def _bound(tokens: int, label: bytes) -> bytes:
    """What a parcel is bound to beside its key."""
    return b"atoll-parcel-1|" + _LENGTH.pack(tokens) + label
