"""A slot's caches as bytes, taken out of a context and put into one."""

from __future__ import annotations

from atoll.domain.errors import EngineFault
from atoll.engine.llama import Context


def state_bytes(context: Context, slot: int) -> int:
    """How large `take_state` of a slot would be now."""
    return int(context.model.library.lib.llama_state_seq_get_size(context.pointer, slot))


def take_state(context: Context, slot: int) -> bytearray:
    """All that the caches hold of a slot; it stays there.

    Raises:
        EngineFault: The engine does not give it.
    """
    ffi, lib = context.model.library.ffi, context.model.library.lib
    state = bytearray(state_bytes(context, slot))
    if state:
        size = lib.llama_state_seq_get_data(
            context.pointer, ffi.from_buffer("uint8_t[]", state), len(state), slot
        )
        if size == len(state):
            return state
    raise EngineFault(f"the engine does not give the caches of slot {slot}")


def put_state(context: Context, slot: int, state: bytes | memoryview, positions: int) -> None:
    """Put what `take_state` gave of a context of this model into a slot, in place of what it holds.

    The engine trusts what it reads: it must be just as it was given.

    Raises:
        EngineFault: The engine does not take it, or it is of another number of positions;
            the slot is empty then.
    """
    ffi, lib = context.model.library.ffi, context.model.library.lib
    context.drop(slot)
    size = lib.llama_state_seq_set_data(
        context.pointer, ffi.from_buffer("uint8_t[]", state), len(state), slot
    )
    memory = lib.llama_get_memory(context.pointer)
    held = lib.llama_memory_seq_pos_max(memory, slot) + 1
    context.restored(slot, max(held, positions))
    if size != len(state) or held != positions:
        context.drop(slot)
        raise EngineFault(f"the engine does not take {positions} positions into slot {slot}")
