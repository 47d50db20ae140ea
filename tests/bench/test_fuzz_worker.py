"""What the fuzzer takes for a crash, and how it runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench.fuzz_targets import targets
from bench.fuzz_worker import TRACE_EVERY, Judge

from bench import fuzz, fuzz_worker


@dataclass
class Reader:
    """A reader that does as it is told."""

    read: Callable[[bytes], object]
    known: tuple[type[Exception], ...] = (KeyError,)


def refuse(_data: bytes) -> None:
    raise KeyError


def break_(_data: bytes) -> None:
    raise IndexError("out of it")


def hang(_data: bytes) -> None:
    while True:
        pass


def test_known_exceptions_are_refusals() -> None:
    judge = Judge(Reader(refuse), 5)
    for _ in range(5):
        judge.take(b"a")
    assert (judge.inputs, judge.refused, judge.n_crashes, judge.is_done) == (5, 5, 0, True)


def test_other_exceptions_are_crashes_shown_once() -> None:
    judge = Judge(Reader(break_), 5)
    for _ in range(3):
        judge.take(b"\x01\x02")
    assert judge.n_crashes == 3
    [shown] = judge.crashes.values()
    assert "IndexError" in shown["what"]
    assert shown["input"] == "0102"


def test_endless_inputs_are_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_worker, "CPU_S_MAX", 0.05)
    with Judge(Reader(hang), 2) as judge:
        judge.take(b"a")
        judge.take(b"a")
    assert judge.n_crashes == 2
    [shown] = judge.crashes.values()
    assert "more than 0.025 s" in shown["what"]


def test_memory_out_of_proportion_is_a_crash() -> None:
    judge = Judge(Reader(lambda _data: bytearray(4 << 20)), TRACE_EVERY)
    for _ in range(TRACE_EVERY):
        judge.take(b"a")
    [shown] = judge.crashes.values()
    assert "bytes" in shown["what"]


def test_all_readers_get_their_share() -> None:
    chosen = targets()
    shares = fuzz.shares(10_000, chosen)
    assert shares.keys() == chosen.keys()
    assert 10_000 <= sum(shares.values()) <= 10_000 + len(chosen)
    assert min(shares.values()) > 100


def test_a_run_counts_what_it_tried() -> None:
    found = fuzz.run(400, 3, ("ticket", "data"))
    assert found["fuzz_inputs"] >= 400
    assert found["fuzz_crashes"] == 0
    assert found["inputs"].keys() == {"ticket", "data"}
    has_guide = importlib.util.find_spec("atheris") is not None
    assert (found["guided"] > 0) == has_guide


def test_a_process_that_dies_is_a_crash() -> None:
    found = fuzz.run_worker("no-such-reader", 10, 0, guided=False)
    assert found["crashes"] == 1
    assert "KeyError" in found["shown"][0]["what"]


def test_inputs_of_one_seed_are_the_same(tmp_path: Path) -> None:
    first, second = (fuzz.run_worker("gguf", 300, 9, guided=False) for _ in range(2))
    assert first["refused"] == second["refused"]
    assert first["inputs"] == 300
