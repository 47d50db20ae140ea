"""Tests marked `alone` run beside no other, and get their turn."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

from tests.support.turns import QUEUE, ROOM, Turns


def is_free(path: Path, how: int) -> bool:
    """Whether the lock could be had now, shared or exclusively."""
    with path.open("wb") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_others_run_beside_each_other(tmp_path: Path) -> None:
    with Turns(tmp_path).turn(alone=False), Turns(tmp_path).turn(alone=False):
        assert not is_free(tmp_path / ROOM, fcntl.LOCK_EX)
        assert is_free(tmp_path / QUEUE, fcntl.LOCK_EX)
    assert is_free(tmp_path / ROOM, fcntl.LOCK_EX)


def test_one_alone_keeps_all_others_out(tmp_path: Path) -> None:
    with Turns(tmp_path).turn(alone=True):
        assert not is_free(tmp_path / ROOM, fcntl.LOCK_SH)
    assert is_free(tmp_path / ROOM, fcntl.LOCK_EX)


def test_the_room_is_kept_for_one_that_is_alone_next(tmp_path: Path) -> None:
    turns = Turns(tmp_path)
    for keep in (True, True, False):
        with turns.turn(alone=True, keep=keep):
            assert not is_free(tmp_path / ROOM, fcntl.LOCK_SH)
        assert is_free(tmp_path / ROOM, fcntl.LOCK_SH) is not keep


def test_tests_that_share_a_ring_wait_for_nobody_between(tmp_path: Path) -> None:
    """The ring's gateway lives on their loop, and is taken for dead if that stands still."""
    turns, order = Turns(tmp_path), list[str]()

    def alone() -> None:
        with Turns(tmp_path).turn(alone=True):
            order.append("alone")

    waiting = threading.Thread(target=alone)
    for keep in (True, True, False):
        with turns.turn(alone=False, keep=keep):
            if not order:
                waiting.start()
                while is_free(tmp_path / QUEUE, fcntl.LOCK_EX):
                    threading.Event().wait(0.01)
            order.append("shared")
    waiting.join()
    assert order == ["shared", "shared", "shared", "alone"]


def test_who_waits_to_be_alone_comes_before_who_comes_later(tmp_path: Path) -> None:
    order: list[str] = []

    def run(name: str, *, alone: bool) -> None:
        with Turns(tmp_path).turn(alone=alone):
            order.append(name)

    first = threading.Thread(target=run, args=("alone",), kwargs={"alone": True})
    later = threading.Thread(target=run, args=("later",), kwargs={"alone": False})
    pause = threading.Event()
    with Turns(tmp_path).turn(alone=False):
        first.start()
        while is_free(tmp_path / QUEUE, fcntl.LOCK_EX):
            pause.wait(0.01)
        later.start()
        # It could have the room, but for the queue.
        assert is_free(tmp_path / ROOM, fcntl.LOCK_SH)
        assert order == []
    first.join()
    later.join()
    assert order == ["alone", "later"]
