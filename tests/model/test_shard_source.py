"""A shard read without being written is the one that is written."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from tests.conftest import MakeModel

from atoll.domain.errors import BadModel
from atoll.model.gguf import open_gguf
from atoll.model.shard import plan_shard, write_shard
from atoll.model.shard_source import ShardSource
from atoll.model.source import FileSource


@pytest.mark.parametrize(("first", "last"), [(0, 2), (1, 5), (3, 6), (0, 6)])
def test_any_part_is_that_of_the_written_file(
    random_model: MakeModel, tmp_path: Path, first: int, last: int
) -> None:
    path, cut = random_model(), tmp_path / "cut.gguf"
    gguf, rng = open_gguf(path), random.Random(first)
    if (first, last) == (0, 6):
        cut.write_bytes(path.read_bytes())
    else:
        write_shard(path, first, last, cut)
    written = cut.read_bytes()
    with path.open("rb") as file:
        source = ShardSource(plan_shard(gguf, first, last), FileSource(file))
        assert source.size_bytes == len(written)
        assert source.read(0, len(written) + 5) == written
        assert source.read(len(written), 9) == b""
        for _ in range(300):
            offset, size = rng.randrange(len(written)), rng.randrange(1, 4000)
            assert source.read(offset, size) == written[offset : offset + size]


def test_a_model_that_shrank(random_model: MakeModel) -> None:
    path = random_model()
    plan = plan_shard(open_gguf(path), 1, 5)
    short = FileSource(io.BytesIO(path.read_bytes()[:-2000]))
    source = ShardSource(plan, short)
    with pytest.raises(BadModel, match="shrank"):
        source.read(0, source.size_bytes)
