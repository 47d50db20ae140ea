"""Where parcels are kept: bounded, cascading, private on the disk, and never raising."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from atoll.node.keeping import (
    RAM_BYTES_MAX,
    DiskKeeper,
    Keeper,
    Keeping,
    RamKeeper,
    Tiers,
    clear,
    open_tiers,
    ram_bytes_default,
)


class Gone:
    """A peer that does not answer any more."""

    def __init__(self) -> None:
        self.asked = 0

    async def put(self, name: str, blob: bytes) -> bool:
        self.asked += 1
        return False

    async def get(self, name: str) -> bytes | None:
        self.asked += 1
        return None

    async def drop(self, name: str) -> None:
        self.asked += 1


@pytest.fixture(params=["ram", "disk"])
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Keeper:
    return RamKeeper(10) if request.param == "ram" else DiskKeeper(tmp_path / "parcels", 10)


async def test_a_parcel_is_kept_until_it_is_dropped(keeper: Keeper) -> None:
    assert await keeper.get("a") is None
    assert await keeper.put("a", b"first")
    assert await keeper.put("a", b"second")
    assert await keeper.get("a") == b"second"
    await keeper.drop("a")
    await keeper.drop("a")
    assert await keeper.get("a") is None


async def test_there_is_no_more_room_than_was_given(keeper: Keeper) -> None:
    assert await keeper.put("a", b"12345")
    assert not await keeper.put("b", b"123456")
    assert await keeper.put("b", b"12345")
    assert not await keeper.put("c", b"1")
    await keeper.drop("a")
    assert await keeper.put("c", b"1")


async def test_files_are_private_and_do_not_outlive_their_process(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "parcels"
    folder.mkdir(parents=True)
    (folder / "left").write_bytes(b"of an earlier process")
    keeper = DiskKeeper(folder, 100)
    assert not list(folder.iterdir())
    assert await keeper.put("../escape", b"x")
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keeper.close()
    assert not folder.exists()


async def test_a_file_that_is_gone_is_a_parcel_that_is_lost(tmp_path: Path) -> None:
    keeper = DiskKeeper(tmp_path / "parcels", 100)
    assert await keeper.put("a", b"x")
    keeper.close()
    assert await keeper.get("a") is None
    assert not await keeper.put("b", b"y")
    assert keeper.held_bytes == 0


async def test_a_file_removed_by_another_is_lost(tmp_path: Path) -> None:
    keeper = DiskKeeper(tmp_path / "parcels", 100)
    assert await keeper.put("a", b"x")
    next((tmp_path / "parcels").iterdir()).unlink()
    assert await keeper.get("a") is None
    assert keeper.held_bytes == 0


async def test_the_oldest_moves_on_and_the_very_oldest_goes() -> None:
    near, far = RamKeeper(10), RamKeeper(10)
    tiers = Tiers([near, far])
    for name in "abcde":
        assert await tiers.put(name, name.encode() * 5)
    assert [await near.get(name) is not None for name in "abcde"] == [False] * 3 + [True] * 2
    assert [await far.get(name) is not None for name in "abcde"] == [False, True, True] + [
        False
    ] * 2
    assert await tiers.get("a") is None
    assert await tiers.get("b") == b"bbbbb"
    assert (tiers.parcels, tiers.held_bytes) == (4, 20)
    await tiers.drop("b")
    assert await tiers.get("b") is None
    assert await far.get("b") is None


async def test_what_is_too_large_for_one_goes_to_the_next_and_displaces_nothing() -> None:
    near, far = RamKeeper(4), RamKeeper(10)
    tiers = Tiers([near, far])
    assert await tiers.put("small", b"1234")
    assert await tiers.put("large", b"12345678")
    assert await near.get("small") == b"1234"
    assert await far.get("large") == b"12345678"
    assert not await tiers.put("huge", b"x" * 11)
    assert await far.get("large") is not None


async def test_a_parcel_put_again_is_the_newest_and_lies_in_one_place() -> None:
    tiers = Tiers([RamKeeper(10), RamKeeper(10)])
    for name in "aba":
        assert await tiers.put(name, name.encode() * 5)
    assert await tiers.put("c", b"ccccc")
    assert tiers.held_bytes == 15
    assert await tiers.get("a") == b"aaaaa"


async def test_a_peer_that_is_gone_only_loses_what_it_is_given() -> None:
    peer = Gone()
    tiers = Tiers([RamKeeper(5), peer])
    assert await tiers.put("a", b"aaaaa")
    assert await tiers.put("b", b"bbbbb")
    assert await tiers.get("a") is None
    assert await tiers.get("b") == b"bbbbb"
    assert not await tiers.put("c", b"cccccc")
    assert peer.asked == 2


async def test_without_keepers_nothing_is_kept() -> None:
    tiers = Tiers([])
    assert not await tiers.put("a", b"")
    assert await tiers.get("a") is None


async def test_a_parcel_on_its_way_to_the_next_tier_is_there() -> None:
    class Slow(RamKeeper):
        entered = asyncio.Event()
        left = asyncio.Event()

        async def put(self, name: str, blob: bytes) -> bool:
            self.entered.set()
            await self.left.wait()
            return await super().put(name, blob)

    slow = Slow(10)
    tiers = Tiers([RamKeeper(5), slow])
    await tiers.put("a", b"aaaaa")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tiers.put("b", b"bbbbb"))
        await slow.entered.wait()
        assert await tiers.get("a") == b"aaaaa"
        slow.left.set()
    assert await tiers.get("a") == b"aaaaa"


async def test_what_is_opened_is_what_was_given_room(tmp_path: Path) -> None:
    folder = tmp_path / "parcels"
    none = open_tiers(Keeping(), "1")
    assert not await none.tiers.put("a", b"x")
    none.close()
    both = open_tiers(Keeping(2, 2, folder), "1")
    for name in "abc":
        await both.tiers.put(name, name.encode() * 2)
    assert await both.tiers.get("a") is None
    assert await both.tiers.get("b") == b"bb"
    other = open_tiers(Keeping(2, 2, folder), "2")
    other.close()
    assert len(list((folder / "1").iterdir())) == 1
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    both.close()
    assert list(folder.iterdir()) == []
    clear(Keeping(2, 2, folder))
    clear(Keeping(2, 2, folder))
    assert not folder.exists()
    # A disk that does not serve costs the disk alone.
    (tmp_path / "file").write_text("")
    there = open_tiers(Keeping(2, 2, tmp_path / "file" / "parcels"), "1")
    assert await there.tiers.put("a", b"aa")


def test_what_memory_is_taken_unasked() -> None:
    assert ram_bytes_default(8 * 1024**3) == 1024**3
    assert ram_bytes_default(1024**4) == RAM_BYTES_MAX
