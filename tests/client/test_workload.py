"""What a measurement asks for: rows, their sizes, what does not fit, and prompts."""

from __future__ import annotations

import pytest

from atoll.client.workload import (
    TOKEN_IDS,
    Room,
    Trial,
    Workload,
    draw_prompt,
    numbers_of,
)
from atoll.domain.errors import BadRequest

LARGE = Room(context=8192, streams=8)


@pytest.mark.parametrize(
    ("trial", "name", "sizes"),
    [
        (Trial("pp", 512), "pp512", (512, 1)),
        (Trial("pp", 512, streams=4), "pp512 x4", (512, 1)),
        (Trial("tg", 128), "tg128", (1, 129)),
        (Trial("tg", 128, 512), "tg128 @ d512", (512, 129)),
        (Trial("tg", 128, 512, 4), "tg128 @ d512 x4", (512, 129)),
    ],
)
def test_names_and_sizes(trial: Trial, name: str, sizes: tuple[int, int]) -> None:
    assert trial.name == name
    assert (trial.prompt_tokens, trial.answer_tokens) == sizes
    assert trial.context_tokens == sum(sizes)


def _names(workload: Workload, room: Room = LARGE) -> list[str]:
    return [trial.name for trial in workload.trials(room)]


def test_the_rows_of_the_defaults() -> None:
    rows = ["pp512", "tg128", "tg128 @ d512", "pp512 x4", "tg128 x4", "tg128 @ d512 x4"]
    assert _names(Workload()) == rows
    assert _names(Workload(), Room()) == rows


def test_defaults_follow_what_the_server_has() -> None:
    assert _names(Workload(), Room(context=640, streams=2)) == [
        *("pp512", "tg128", "pp512 x2", "tg128 x2"),
    ]
    assert _names(Workload(), Room(context=641, streams=1)) == ["pp512", "tg128", "tg128 @ d512"]


def test_what_is_left_out_and_what_is_named_twice() -> None:
    assert _names(Workload(prompt=0, depths=(7, 7), streams=(2, 2))) == ["tg128 @ d7 x2"]
    assert _names(Workload(generate=0, streams=(3, 1))) == ["pp512 x3", "pp512"]


@pytest.mark.parametrize(
    ("workload", "problem", "hint"),
    [
        (Workload(streams=(1, 9)), "9 streams are more than the 8", "up to 8"),
        (Workload(prompt=8192), "pp8192 takes 8193 tokens", "--prompt up to 8191 fits"),
        (
            Workload(depths=(0, 8064)),
            "tg128 @ d8064 takes 8193 tokens",
            "with --generate 128 depths up to 8063 fit",
        ),
        (
            Workload(generate=9000, depths=(0,)),
            "tg9000 takes 9002 tokens",
            "--generate up to 8190 fits",
        ),
        (
            Workload(generate=9000, depths=(512,)),
            "tg9000 @ d512 takes 9513 tokens",
            "--generate up to 7679 fits",
        ),
    ],
)
def test_what_does_not_fit(workload: Workload, problem: str, hint: str) -> None:
    with pytest.raises(BadRequest, match=problem) as caught:
        workload.trials(LARGE)
    assert hint in caught.value.hint


def test_what_the_hint_says_does_fit() -> None:
    workloads = (
        Workload(prompt=8191),
        Workload(depths=(8063,)),
        Workload(generate=8190, depths=(0,)),
        Workload(generate=7679, depths=(512,)),
    )
    assert all(workload.trials(LARGE) for workload in workloads)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"prompt": -1}, "--prompt -1 is out of range"),
        ({"generate": (1 << 20) + 1}, "--generate 1048577 is out of range"),
        ({"prompt": 0, "generate": 0}, "nothing to measure"),
        ({"depths": (-5,)}, "--depths -5 is out of range"),
        ({"depths": ()}, "--depths names no number"),
        ({"streams": (1, 0)}, "--streams 0 is out of range"),
        ({"streams": (257,)}, "--streams 257 is out of range"),
        ({"rounds": 0}, "--rounds 0 is out of range"),
    ],
)
def test_numbers_out_of_range(fields: dict[str, int], problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        Workload(**fields)  # type: ignore[arg-type]


def test_numbers_with_commas() -> None:
    assert numbers_of("0") == (0,)
    assert numbers_of("0,512, 4096") == (0, 512, 4096)


@pytest.mark.parametrize("text", ["", ",", "1,", "a", "1;2", "-1", "1.5", "٣", "1" * 10])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="commas between them"):
        numbers_of(text)


def test_no_prompt_comes_twice() -> None:
    prompts = {draw_prompt(16) for _ in range(100)}
    assert len(prompts) == 100
    assert all(len(prompt) == 16 for prompt in prompts)


def test_prompts_hold_ids_of_text() -> None:
    low, high = draw_prompt(3, below=lambda _n: 0), draw_prompt(3, below=lambda n: n - 1)
    assert low == (TOKEN_IDS[0],) * 3
    assert high == (TOKEN_IDS[-1],) * 3
    assert draw_prompt(0) == ()
