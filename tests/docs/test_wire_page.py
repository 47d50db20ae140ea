"""The page on the wire names every message, field, refusal code and bound of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest

import atoll
from atoll.domain.bulk import BulkMessage, ShardRange
from atoll.domain.control import ControlMessage, Plan, Source, StagePlan
from atoll.domain.lent_memory import MemoryMessage
from atoll.domain.timing import TimingMessage
from atoll.domain.wire import ENCODINGS, DataMessage
from atoll.engine import codec
from atoll.net.frames import DataDecoder, encode
from atoll.net.link import DataLimits

SOURCE = Path(atoll.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "wire.md").read_text("utf-8")
CODE = re.compile(r'(?:Fault|Rejected|Failed|_reject)\([^"()]*(?:\([^()]*\))?[^"()]*"([a-z_]+)"')


def row_of(tag: str) -> str:
    """The table's row that begins with or holds the tag in its first two columns."""
    found = [
        line
        for line in PAGE.splitlines()
        if line.startswith("|") and f"`{tag}`" in "|".join(line.split("|")[1:3])
    ]
    assert found, f"no row for {tag}"
    return found[0]


@pytest.mark.parametrize(
    "message",
    [
        *get_args(DataMessage),
        *get_args(ControlMessage),
        *get_args(BulkMessage),
        *get_args(TimingMessage),
        *get_args(MemoryMessage),
    ],
)
def test_every_message_is_listed_with_its_fields(message: type[msgspec.Struct]) -> None:
    row = row_of(str(message.__struct_config__.tag))
    places = [row.find(f"`{field}`") for field in message.__struct_fields__]
    assert -1 not in places
    if message.__struct_config__.array_like:
        assert places == sorted(places), "fields of an array are listed in their order"


@pytest.mark.parametrize("struct", [Plan, StagePlan, Source, ShardRange])
def test_a_plans_fields_are_listed(struct: type[msgspec.Struct]) -> None:
    assert [field for field in struct.__struct_fields__ if f"`{field}`" not in PAGE] == []


def test_every_code_of_a_refusal_is_listed() -> None:
    codes = {
        code
        for path in sorted((SOURCE / "ring").glob("*.py"))
        for code in CODE.findall(path.read_text())
    }
    assert {"epoch", "credit", "gap", "slot", "ring_down", "overloaded"} <= codes
    assert sorted(code for code in codes if f"`{code}`" not in PAGE) == []


def test_the_header_shown_is_one_that_is_taken() -> None:
    shown = re.search(r'^\["w", .*\]$', PAGE, re.MULTILINE)
    assert shown
    header = msgspec.msgpack.encode(msgspec.json.decode(shown[0]))
    decoded = msgspec.msgpack.decode(header, type=DataMessage)
    payload = codec.encode(np.ones((1, 4), np.float32), "f16s")
    frames = list(DataDecoder(DataLimits(4, 8)).feed(encode(decoded, payload)))
    assert frames == [(decoded, payload)]


@pytest.mark.parametrize(
    ("place", "encoding", "read"),
    [(0, "f16s", [0, 1, -3, 99_968]), (1, "i8b32", [0, 0, 0, 100_076])],
)
def test_the_payloads_shown_are_what_the_codec_writes(
    place: int, encoding: str, read: list[float]
) -> None:
    shown = re.findall(r"^([0-9a-f ]+)$\n```", PAGE, re.MULTILINE)
    row = np.array([[0, 1, -3, 100_000]], np.float32)
    payload = codec.encode(row, encoding)
    assert payload.hex() == shown[place].replace(" ", "")
    found = np.empty_like(row)
    codec.decode_into(found, payload, encoding)
    assert found.tolist() == [read]


def test_every_encoding_is_described() -> None:
    assert [name for name in ENCODINGS if f"| `{name}` |" not in PAGE] == []
