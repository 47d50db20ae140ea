"""The code that two strangers compare."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from atoll.domain.address import HostPort
from atoll.domain.control import (
    Approved,
    Beat,
    CodeConfirmed,
    ControlMessage,
    Knock,
    KnockAnswer,
    Reveal,
)
from atoll.domain.ids import NodeId
from atoll.net.pairing import code_of, commitment_to, is_same_code, problem_of_pairing

GATEWAY, NODE, ROGUE = NodeId("a1" * 32), NodeId("b2" * 32), NodeId("c3" * 32)
ONE, TWO = b"\x01" * 32, b"\x02" * 32


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Knock("n", bytes(32)), ""),
        (Knock("n" * 256, bytes(32)), "longer than 255"),
        (Knock("n", bytes(20)), "no hash"),
        (KnockAnswer(bytes(32)), ""),
        (Reveal(bytes(16)), "another length"),
        (Approved((HostPort("a.example", 1),), 2, "https://relay.example"), ""),
        (Approved((), -1), "out of range"),
        (Approved((HostPort("a b", 1),)), "no name or address"),
        (Approved((), 0, "javascript:"), "must begin with"),
        (Approved((HostPort("a", 1),) * 17), "allowed are 16"),
        (CodeConfirmed(), ""),
        (Beat(1), ""),
    ],
)
def test_messages_have_ranges(message: ControlMessage, problem: str) -> None:
    found = problem_of_pairing(message)
    assert problem in found
    assert bool(problem) == bool(found)


def test_a_code_is_what_the_page_says() -> None:
    keys = bytes.fromhex(GATEWAY + NODE)
    digest = hashlib.sha256(b"atoll-code-1\0" + keys + ONE + TWO).digest()
    number = int.from_bytes(digest[:16]) % 1_000_000
    code = code_of(ONE, TWO, gateway=GATEWAY, node=NODE)
    assert code.replace(" ", "") == f"{number:06}"
    assert code == "041 751"
    committed = hashlib.sha256(b"atoll-knock-1\0" + keys + ONE).digest()
    assert commitment_to(ONE, gateway=GATEWAY, node=NODE) == committed


def test_everything_decides_the_code() -> None:
    codes = {
        code_of(ONE, TWO, gateway=GATEWAY, node=NODE),
        code_of(TWO, ONE, gateway=GATEWAY, node=NODE),
        code_of(ONE, ONE, gateway=GATEWAY, node=NODE),
        code_of(ONE, TWO, gateway=ROGUE, node=NODE),
        code_of(ONE, TWO, gateway=GATEWAY, node=ROGUE),
        code_of(ONE, TWO, gateway=NODE, node=GATEWAY),
    }
    assert len(codes) == 6
    hashes = {commitment_to(n, gateway=g, node=NODE) for n in (ONE, TWO) for g in (GATEWAY, ROGUE)}
    assert len(hashes) == 4


def test_codes_are_spread_over_all_digits() -> None:
    codes = [
        code_of(n.to_bytes(32), TWO, gateway=GATEWAY, node=NODE).replace(" ", "")
        for n in range(2000)
    ]
    for place in range(6):
        counted = Counter(code[place] for code in codes)
        assert set(counted) == set("0123456789")
        assert max(counted.values()) < 300


@pytest.mark.parametrize("nonce", [b"", b"x" * 31, b"x" * 33])
def test_a_nonce_of_another_length_is_a_mistake(nonce: bytes) -> None:
    with pytest.raises(ValueError, match="length"):
        code_of(nonce, TWO, gateway=GATEWAY, node=NODE)


@pytest.mark.parametrize("typed", ["012 345", "012345", " 012-345\r\n"])
def test_digits_count_and_not_how_they_are_grouped(typed: str) -> None:
    assert is_same_code(typed, "012 345")


@pytest.mark.parametrize("typed", ["", " ", "12 345", "012 346", "012 3456", "y", "٠١٢ ٣٤٥"])
def test_other_codes(typed: str) -> None:
    assert not is_same_code(typed, "012 345")
    assert not is_same_code("", "")
