"""Bounds on links without a name; over real links they are in test_fleet.py."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from atoll.domain.errors import LinkFault
from atoll.members import strangers as module
from atoll.members.strangers import Strangers
from atoll.net.link import ControlLink


@dataclass(eq=False)
class Link:
    """What is needed of a link."""

    peer_host: str = "10.0.0.1"
    reasons: list[str] = field(default_factory=list)

    def close(self, reason: LinkFault) -> None:
        self.reasons.append(reason.problem)


def link(host: str = "10.0.0.1") -> tuple[ControlLink, Link]:
    one = Link(host)
    return cast(ControlLink, one), one


async def test_few_in_all_and_of_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRANGERS_MAX", 3)
    monkeypatch.setattr(module, "STRANGERS_PER_HOST_MAX", 2)
    found = Strangers()
    first = link()[0]
    assert found.add(first)
    assert found.add(link()[0])
    assert not found.add(link()[0])
    assert found.add(link("10.0.0.2")[0])
    assert not found.add(link("10.0.0.3")[0])
    found.forget(first)
    found.forget(first)
    assert found.add(link()[0])


async def test_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTRODUCTION_S", 0.01)
    found, (slow, seen), (quick, left) = Strangers(), link(), link()
    found.add(slow)
    found.add(quick)
    found.forget(quick)
    await asyncio.sleep(0.05)
    assert seen.reasons == ["no introduction came in time"]
    assert left.reasons == []


async def test_closing_ends_all() -> None:
    found, (one, seen) = Strangers(), link()
    found.add(one)
    found.close(LinkFault("the gateway is shutting down"))
    assert seen.reasons == ["the gateway is shutting down"]
