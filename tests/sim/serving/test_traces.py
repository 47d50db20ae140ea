"""Traces in the forms that operators publish, and what is wrong with them."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.sim.serving.requests import Request
from atoll.sim.serving.traces import parse_trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:16:46.6805900,879,55
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00.017335+00:00,2399,6
"""
MOONCAKE = """{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}
{"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}

{"timestamp": 3052, "input_length": 90, "output_length": 1}
"""
PLAIN = "user,at_s,prompt,answer\nann,10,100,20\nbob,10.5,7,1\n"


def test_azure() -> None:
    found = parse_trace(AZURE, source="t")
    assert [(r.prompt, r.answer) for r in found] == [(374, 44), (396, 109), (879, 55)]
    assert [r.at_s for r in found] == pytest.approx([0.0, 4.314579, 60.0], abs=1e-5)
    assert parse_trace(AZURE_2024, source="t")[1].at_s == pytest.approx(0.007405, abs=1e-5)


def test_mooncake() -> None:
    assert parse_trace(MOONCAKE, source="t") == [
        Request(0.0, 6758, 500, (0, 1, 2)),
        Request(3.0, 7322, 490, (0, 14)),
        Request(3.052, 90, 1),
    ]


def test_plain_with_other_columns_and_a_mark_in_front() -> None:
    assert parse_trace("\ufeff" + PLAIN, source="t") == [Request(0, 100, 20), Request(0.5, 7, 1)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no known form"),
        ("a,b,c\n1,2,3\n", "no known form"),
        ("at_s,prompt,answer\n", "has no requests"),
        ("at_s,prompt,answer\n1,2\n", "line 2 has 2 columns"),
        ("at_s,prompt,answer\n1,,3\n", "line 2 lacks a figure"),
        ("at_s,prompt,answer\n1,2,3\n,2,3\n", "line 3 lacks a figure"),
        ("at_s,prompt,answer\n1,two,3\n", "line 2 cannot be read"),
        ("at_s,prompt,answer\n-1,2,3\n", "a request at -1.0 s"),
        ("at_s,prompt,answer\nnan,2,3\n", "a request at nan s"),
        ("at_s,prompt,answer\ninf,2,3\n", "a request at inf s"),
        ("at_s,prompt,answer\n5,2,3\n4,2,3\n", "line 3: it comes before the line above"),
        ("at_s,prompt,answer\n1,0,3\n", "0 tokens of a prompt"),
        ("at_s,prompt,answer\n1,5,-3\n", "-3 of an answer"),
        ("at_s,prompt,answer\n0,5,3\n1e9,5,3\n", "longer than a year"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,5,3\n", "line 2 cannot be read"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-16 18:15:46,5,3\n", "cannot be read"),
        ('{"timestamp": 1, "input_length": 5}\n', "line 1 cannot be read"),
        ('{"timestamp": -1, "input_length": 5, "output_length": 1}\n', "a request at -0.001 s"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 1}\n{', "line 2 cannot be read"),
        ("at_s,prompt,answer\n" + "1" * 200_000 + ",1,1\n", "is no CSV"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        parse_trace(text, source="trace")
