"""What a node lends, and to whom."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import MakeModel

from atoll.domain.bulk import ShardRange
from atoll.domain.control import Lend
from atoll.domain.errors import LinkFault
from atoll.domain.ids import ModelId, NodeId
from atoll.node.lends import LENDS_MAX, Lends
from atoll.store.layout import Store, UnknownModel
from atoll.store.pull import pull

FRIEND, STRANGER = NodeId("1" * 64), NodeId("2" * 64)


def test_only_what_was_asked_for_and_to_whom(random_model: MakeModel, tmp_path: Path) -> None:
    store = Store(tmp_path)
    model = pull(str(random_model()), store=store).model
    lends, shard = Lends(store), ShardRange(model, 1, 3)
    with pytest.raises(LinkFault, match="did not ask this node to lend anything"):
        lends.authorise(FRIEND)
    lends.note(Lend(FRIEND, model, 1, 3))
    lends.authorise(FRIEND)
    with lends.open(FRIEND, shard) as source:
        assert source.read(0, 4) == b"GGUF"
    for peer, wanted in ((STRANGER, shard), (FRIEND, ShardRange(model, 1, 4))):
        with pytest.raises(LinkFault, match="did not ask this node to lend that"):
            lends.open(peer, wanted)


def test_what_is_not_here_any_more(random_model: MakeModel, tmp_path: Path) -> None:
    lends, model = Lends(Store(tmp_path)), Store(tmp_path).resolve(str(random_model())).model
    lends.note(Lend(FRIEND, model, 1, 3))
    with pytest.raises(UnknownModel), lends.open(FRIEND, ShardRange(model, 1, 3)):
        """Nothing is there to be read."""


def test_old_wishes_give_way(tmp_path: Path) -> None:
    lends, model = Lends(Store(tmp_path)), ModelId("a" * 64)
    lends.note(Lend(FRIEND, model, 1, 3))
    for i in range(LENDS_MAX):
        lends.note(Lend(STRANGER, model, i, i + 1))
    with pytest.raises(LinkFault):
        lends.authorise(FRIEND)
    lends.authorise(STRANGER)
