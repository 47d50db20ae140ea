"""Keeping streams: who may have them, for how long, and how many."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.api.test_journal import JOB, TOKENS

from atoll.api.errors import ApiError
from atoll.api.held import Held, TakenOver
from atoll.api.journal import Head, Journal, JournalFault, Token
from atoll.api.keeper import Keeper, StreamKeeping, open_keeper

KEY, OTHER = "00112233", "44556677"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Kept:
    """A keeper in a folder, with a clock of its own."""

    def __init__(self, folder: Path, model: str = "model", **keeping: float) -> None:
        self.clock, self.said = Clock(), list[str]()
        self.keeper = Keeper(
            folder,
            model,
            StreamKeeping(**keeping),  # type: ignore[arg-type]
            tell=self.said.append,
            now_s=self.clock,
        )
        self.keeper.load()

    def create(self, *, idempotency: str = "", digest: str = "", key: str = KEY) -> Held:
        held = self.keeper.create(JOB, "chat", key=key, idempotency=idempotency, digest=digest)
        assert held is not None
        return held

    async def claim(self, stream: str, key: str = KEY) -> tuple[Head, Held]:
        async with asyncio.timeout(5):
            return await self.keeper.claim(stream, key)


def note_all(held: Held) -> None:
    for sampled in TOKENS:
        held.note(Token.of(0, sampled))


async def refused(kept: Kept, stream: str, key: str = KEY) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await kept.claim(stream, key)
    return caught.value


async def test_a_stream_is_gone_on_with(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "streams")
    held = kept.create()
    assert held.is_kept
    note_all(held)
    held.release()
    head, again = await kept.claim(held.stream)
    assert head.job == JOB
    assert [token.sampled for token in again.tokens] == TOKENS
    assert (again.goes_on, again.ended) == (True, False)
    again.end()
    again.release()
    _, last = await kept.claim(held.stream)
    assert last.ended
    assert (tmp_path / "streams").stat().st_mode & 0o777 == 0o700


async def test_also_by_another_gateway_after_a_crash(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    held = kept.create(idempotency="mine", digest="d")
    note_all(held)
    # It is not released: the process was killed, in the middle of a record.
    [path] = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b"\x10\x00")
    later = Kept(tmp_path)
    assert later.keeper.find(KEY, "mine", "d") == held.stream
    assert later.keeper.n_bytes == path.stat().st_size
    _, again = await later.claim(held.stream)
    assert [token.sampled for token in again.tokens] == TOKENS
    assert later.keeper.n_bytes == path.stat().st_size == kept.keeper.n_bytes


async def test_others_do_not_learn_that_it_is_there(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    held = kept.create()
    held.release()
    here = await refused(kept, held.stream, OTHER)
    nowhere = await refused(kept, "strm-" + "0" * 32, OTHER)
    assert (here.status, str(here)) == (nowhere.status, str(nowhere)) == (404, str(nowhere))
    for name in ("", "x", "../keys", f"{held.stream}.journal", held.stream.upper()):
        assert (await refused(kept, name)).status == 404


def test_names_cannot_be_guessed(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    names = {kept.create().stream for _ in range(20)}
    assert len(names) == 20
    # 128 bits of chance, and nothing of them is the same in all.
    digits = [name.removeprefix("strm-") for name in names]
    assert all(len(part) == 32 and int(part, 16) for part in digits)
    assert all(len({part[place] for part in digits}) > 1 for place in range(32))


async def lose(held: Held) -> None:
    """Hold a stream until another takes it, as an answer does."""
    with pytest.raises(TakenOver):
        async with asyncio.timeout(5):
            await held.wait_taken()
    held.release()


async def test_who_comes_later_takes_it_over(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    first = kept.create()
    first.note(Token.of(0, TOKENS[0]))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lose(first))
        _, second = await kept.claim(first.stream)
    assert [token.sampled for token in second.tokens] == TOKENS[:1]
    # The first one writes nothing any more, whatever it does.
    first.note(Token.of(0, TOKENS[2]))
    second.note(Token.of(0, TOKENS[1]))

    async def take() -> Held:
        _, held = await kept.claim(first.stream)
        if held.taken.is_set():
            held.release()
        return held

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lose(second))
        takers = [tasks.create_task(take()) for _ in range(3)]
    # All got everything, one after the other, and the last one has it.
    found = [taker.result() for taker in takers]
    assert all([token.sampled for token in held.tokens] == TOKENS[:2] for held in found)
    assert [held.is_kept for held in found].count(True) == 1


async def test_one_that_is_not_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.api.keeper.LET_GO_S", 0.05)
    kept = Kept(tmp_path)
    held = kept.create()
    error = await refused(kept, held.stream)
    assert (error.status, error.code) == (409, "stream_busy")


async def test_a_client_key_stands_for_one_request(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    held = kept.create(idempotency="mine", digest="d")
    assert kept.keeper.find(KEY, "mine", "d") == held.stream
    assert kept.keeper.find(OTHER, "mine", "d") is None
    assert kept.keeper.find(KEY, "", "d") is None
    with pytest.raises(ApiError) as caught:
        kept.keeper.find(KEY, "mine", "another")
    assert caught.value.status == 422
    held.drop()
    assert kept.keeper.find(KEY, "mine", "another") is None


async def test_what_nobody_held_for_long_is_deleted(tmp_path: Path) -> None:
    kept = Kept(tmp_path, seconds=100)
    held, idle = kept.create(), kept.create()
    idle.release()
    kept.clock.now_s += 99
    kept.keeper.sweep()
    assert kept.keeper.n_streams == 2
    kept.clock.now_s += 2
    kept.keeper.sweep()
    assert [path.stem for path in tmp_path.iterdir()] == [held.stream]
    # While it is held no time passes; a claim begins it anew.
    kept.clock.now_s += 1000
    kept.keeper.sweep()
    held.release()
    kept.clock.now_s += 60
    _, again = await kept.claim(held.stream)
    again.release()
    kept.clock.now_s += 60
    kept.keeper.sweep()
    assert kept.keeper.n_streams == 1
    kept.clock.now_s += 60
    kept.keeper.sweep()
    assert (list(tmp_path.iterdir()), kept.keeper.n_bytes) == ([], 0)
    assert (await refused(kept, held.stream)).status == 404


def test_time_goes_on_while_no_gateway_runs(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    old, young = kept.create(), kept.create()
    for held, age_s in ((old, 101), (young, 60)):
        held.release()
        at_s = time.time() - age_s
        os.utime(tmp_path / f"{held.stream}.journal", (at_s, at_s))
    later = Kept(tmp_path, seconds=100)
    assert [path.stem for path in tmp_path.iterdir()] == [young.stream]
    later.clock.now_s += 50
    later.keeper.sweep()
    assert later.keeper.n_streams == 0


def test_foreign_and_broken_files_are_no_streams(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    (tmp_path / "strm-x.journal").write_text("broken")
    kept = Kept(tmp_path)
    assert kept.keeper.n_streams == 0
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_the_oldest_make_room(tmp_path: Path) -> None:
    kept = Kept(tmp_path, streams_max=3)
    held = [kept.create() for _ in range(3)]
    assert kept.keeper.create(JOB, "chat", key=KEY) is None
    assert "too many streams" in kept.said[0]
    held[1].release()
    held[0].release()
    fourth = kept.create()
    assert {path.stem for path in tmp_path.iterdir()} == {
        *(held[0].stream, held[2].stream, fourth.stream)
    }


def test_one_keys_many_do_not_push_out_anothers_few(tmp_path: Path) -> None:
    kept = Kept(tmp_path, streams_max=4)
    others = kept.create(key=OTHER)
    others.release()
    for _ in range(20):
        kept.create().release()
    assert kept.keeper.n_streams == 4
    assert (tmp_path / f"{others.stream}.journal").exists()


def test_bytes_are_bounded(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.create().release()
    size = kept.keeper.n_bytes
    kept = Kept(tmp_path, bytes_max=int(2.5 * size))
    held = kept.create()
    while kept.keeper.n_streams == 2:
        note_all(held)
    assert held.is_kept
    while kept.keeper.n_streams:
        note_all(held)
    assert "cannot be resumed any more" in kept.said[0]
    assert (kept.keeper.n_streams, kept.keeper.n_bytes) == (0, 0)
    assert list(tmp_path.iterdir()) == []
    note_all(held)
    held.end()
    held.release()


async def test_where_nothing_can_be_written_streams_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path)
    held, other = kept.create(idempotency="mine"), kept.create()

    def full(_self: Journal, _record: object) -> None:
        raise JournalFault("a stream's journal cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", full)
        note_all(held)
        note_all(other)
    assert not held.is_kept
    assert (await refused(kept, held.stream)).status == 404
    assert kept.keeper.find(KEY, "mine", "") is None
    # One line for one trouble, however many streams it meets.
    [line] = kept.said
    assert "No space left" in line

    def nowhere(_path: Path, _head: object) -> Journal:
        raise JournalFault("a stream's journal cannot be begun: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "create", nowhere)
        assert kept.keeper.create(JOB, "chat", key=KEY) is None
    assert kept.create().is_kept


async def test_a_damaged_journal_is_told_apart(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    held = kept.create()
    held.release()
    (tmp_path / f"{held.stream}.journal").write_bytes(b"oops")
    assert (await refused(kept, held.stream)).status == 404
    assert kept.keeper.n_streams == 0


async def test_another_model_cannot_go_on(tmp_path: Path) -> None:
    held = Kept(tmp_path).create()
    later = Kept(tmp_path, model="other")
    error = await refused(later, held.stream)
    assert (error.status, error.code) == (409, "model_changed")
    # It is there for a gateway that serves it again.
    assert (await Kept(tmp_path).claim(held.stream))[0].job == JOB


async def test_keeping_for_no_time(tmp_path: Path) -> None:
    async with open_keeper(tmp_path / "x", "model", StreamKeeping(0), tell=print) as keeper:
        assert keeper is None
    assert not (tmp_path / "x").exists()


async def test_it_sweeps_by_itself_and_closes_at_the_end(tmp_path: Path) -> None:
    async with open_keeper(tmp_path, "model", StreamKeeping(0.05), tell=print) as keeper:
        assert keeper is not None
        held, idle = (keeper.create(JOB, "chat", key=KEY) for _ in range(2))
        assert held is not None
        assert idle is not None
        idle.release()
        async with asyncio.timeout(5):
            while keeper.n_streams > 1:
                await asyncio.sleep(0.01)
    held.note(Token.of(0, replace(TOKENS[0], cached=0)))
    assert not held.is_kept
    held.release()
