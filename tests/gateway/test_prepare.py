"""A model made ready: what it needs of a node, and which files are in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from atoll.domain.errors import BadRequest
from atoll.domain.measure import order_problem
from atoll.gateway.options import RingOptions
from atoll.gateway.prepare import (
    MEMORY_SPARE,
    check_context,
    ends_options,
    memory_needed,
    prepare,
)
from atoll.model.manifest import kv_bytes
from atoll.model.shard import hash_shard
from atoll.store.cache import prune
from atoll.store.layout import FoundModel, Store

RING = RingOptions(nodes=2, streams=3, context=64)


def test_each_stage_has_an_entry_and_the_ends_have_files(
    small_model: FoundModel, small_store: Store
) -> None:
    prepared = prepare(small_model, small_store, RING)
    try:
        assert [(entry.first, entry.last) for entry in prepared.manifest.shards] == [(1, 3), (3, 5)]
        assert prepared.head.path.is_file()
        assert prepared.tail.path.is_file()
        assert prepared.head.path != prepared.tail.path
    finally:
        prepared.release()


def test_a_node_needs_its_largest_stage_with_every_stream_at_full_length(
    small_model: FoundModel, small_store: Store
) -> None:
    prepared = prepare(small_model, small_store, RING)
    prepared.release()
    manifest = prepared.manifest
    stages = [
        entry.size_bytes + kv_bytes(manifest, entry.first, entry.last, 3 * 64)
        for entry in manifest.shards
    ]
    assert memory_needed(manifest, RING) == int(MEMORY_SPARE * max(stages))


def test_the_ends_get_their_files_and_count_their_memory(
    small_model: FoundModel, small_store: Store
) -> None:
    prepared = prepare(small_model, small_store, RING)
    prepared.release()
    manifest = prepared.manifest
    options = ends_options(small_model, prepared, RING)
    assert (options.head, options.tail) == (str(prepared.head.path), str(prepared.tail.path))
    assert (options.n_slots, options.context) == (3, 64)
    kv = kv_bytes(manifest, 0, 1, 3 * 64) + kv_bytes(manifest, 5, 6, 3 * 64)
    assert options.need_bytes == prepared.head.size_bytes + prepared.tail.size_bytes + kv


def test_the_ends_files_stay_until_they_are_released(
    small_model: FoundModel, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    prepared = prepare(small_model, store, RING)
    assert prune(store, 0).removed == ()
    prepared.release()
    assert len(prune(store, 0).removed) == 2


@pytest.mark.parametrize("context", [0, -1, 513])
def test_a_context_that_the_model_was_not_made_for_is_refused(
    small_model: FoundModel, small_store: Store, context: int
) -> None:
    prepared = prepare(small_model, small_store, RING)
    prepared.release()
    with pytest.raises(BadRequest, match=f"a context of {context} tokens") as caught:
        check_context(RingOptions(nodes=2, context=context), prepared.manifest)
    assert "--context" in caught.value.hint


def test_nodes_are_asked_to_time_layers_only_where_that_is_wanted(
    small_model: FoundModel, small_store: Store
) -> None:
    prepared = prepare(small_model, small_store, RING)
    prepared.release()
    assert prepared.order is None
    prepared = prepare(small_model, small_store, replace(RING, plan="auto"))
    prepared.release()
    assert prepared.order is not None
    assert order_problem(prepared.order) == ""
    assert prepared.order.rows_max == RING.rows_max
    for asked in prepared.order.ranges:
        digest = hash_shard(small_model.path, asked.first, asked.last)
        assert asked.shard == digest.shard
