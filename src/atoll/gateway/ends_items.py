"""What the coordinator asks of the ends, as their process is asked, and its answers back."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.engine.ends_messages import Head, ItemsDone, Tail
from atoll.ring import coordinator_messages as ring
from atoll.ring.messages import ItemFailed


def asked(items: Sequence[ring.EndsItem]) -> tuple[tuple[Head | Tail, ...], list[bytes]]:
    """The items for the process, and the tails' windows."""
    wire: list[Head | Tail] = []
    payloads: list[bytes] = []
    for item in items:
        if isinstance(item, ring.HeadItem):
            wire.append(Head(item.slot, item.keep, item.exact, item.encoding, item.tokens))
            continue
        of = (item.slot, item.keep, item.exact, item.encoding, item.rows)
        then = (item.sample, item.chain, item.last, item.checked, item.guesses)
        wire.append(Tail(*of, *then))
        payloads.append(bytes(item.payload))
    return tuple(wire), payloads


def answered(
    items: Sequence[ring.EndsItem], message: ItemsDone, payload: bytes
) -> tuple[ring.EndsResult, ...]:
    """What the process answered, in the items' order."""
    results: list[ring.EndsResult] = []
    at = 0
    for item, result in zip(items, message.results, strict=True):
        part = payload[at : at + result.size]
        at += result.size
        if result.problem:
            results.append(ItemFailed(result.problem))
        elif isinstance(item, ring.HeadItem):
            results.append(ring.HeadDone(part))
        else:
            results.append(ring.TailDone(result.sampled, part or None, result.accepted))
    return tuple(results)
